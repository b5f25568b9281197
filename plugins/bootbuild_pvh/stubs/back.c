/* SPDX-License-Identifier: 0BSD */
/* From the record to hvm_start_info. The record's module list and memory map are PVH's own, byte for byte. */
#include <bootbuild/waist.h>

#include "start_info.h"

/* What EBX points to. The record is for who looks for it: PVH has no other place for the pair (docs/handover.md). */
static struct {
    struct start_info info;
    struct bb_handover record;
} handed __attribute__((aligned(4096)));

_Static_assert(__builtin_offsetof(__typeof__(handed), record) == sizeof(struct start_info), "right behind it");
_Static_assert(sizeof(struct start_memory) == sizeof(struct bb_memory), "hvm_memmap_table_entry");
_Static_assert(sizeof(struct start_module) == sizeof(struct bb_module), "hvm_modlist_entry");
#define SAME(a, b, field, other) \
    _Static_assert(__builtin_offsetof(struct a, field) == __builtin_offsetof(struct b, other), #field)
SAME(start_memory, bb_memory, addr, address);
SAME(start_memory, bb_memory, size, size);
SAME(start_memory, bb_memory, type, type);
SAME(start_module, bb_module, paddr, address);
SAME(start_module, bb_module, size, size);
SAME(start_module, bb_module, cmdline_paddr, cmdline);
#undef SAME

void *bb_pvh_start_info(const struct bb_handover *record)
{
    struct start_info *info = &handed.info;

    info->magic = START_MAGIC;
    info->version = 1;
    if (record->flags & BB_FLAG_PRIVILEGED)
        info->flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    info->nr_modules = record->module_count;
    info->modlist_paddr = record->modules;
    info->cmdline_paddr = record->cmdline;
    info->rsdp_paddr = record->rsdp;
    info->memmap_paddr = record->memmap;
    info->memmap_entries = record->memmap_count;
    bb_copy(&handed.record, record, sizeof handed.record);
    return &handed;
}
