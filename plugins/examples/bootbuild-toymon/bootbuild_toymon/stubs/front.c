/* SPDX-License-Identifier: 0BSD */
/* From toymon_info to bootbuild's record. */
#include <bootbuild/waist.h>

#include "toymon.h"

static struct bb_handover record;
static struct bb_memory memory;
static struct bb_module module;
static char cmdline[TOYMON_CMDLINE];

extern uint64_t toymon_post(const struct bb_handover *, uint32_t, void *);

static void __attribute__((noreturn)) die(const char *reason)
{
    bb_com1_write(reason, bb_length(reason));
    bb_outb(TOYMON_POWER, 1);
    bb_stop();
}

struct bb_handover *toymon_main(const struct toymon_info *info)
{
    struct bb_hypervisor hypervisor = bb_detect_hypervisor();

    if (info->magic != TOYMON_MAGIC || info->version != 1)
        die("toymon front: ESI does not point to a toymon_info of version 1\n");
    record.boot_type = TOYMON_BOOT;
    record.hypervisor_type = hypervisor.type;
    record.hypervisor_leaf = hypervisor.leaf;
    record.data = (uint32_t)info;
    if (info->cmdline) {
        bb_copy(cmdline, (const char *)info->cmdline, sizeof cmdline);
        record.cmdline = (uint32_t)cmdline;
    }
    memory.size = (uint64_t)info->memory << 10;
    memory.type = BB_MEMORY_RAM;
    record.memmap = (uint32_t)&memory;
    record.memmap_count = 1;
    if (info->module) {
        module.address = info->module;
        module.size = info->module_size;
        record.modules = (uint32_t)&module;
        record.module_count = 1;
    }
    record.post_stub = (uint32_t)toymon_post;
    bb_seal(&record);
    return &record;
}
