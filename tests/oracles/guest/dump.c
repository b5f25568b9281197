// SPDX-License-Identifier: 0BSD
// Says how a PVH monitor entered us and what it handed over.
//
// struct layouts: Xen xen/include/public/arch-x86/hvm/start_info.h.

#include "say.h"

struct start_info {
    u32 magic, version, flags, nr_modules;
    u64 modlist_paddr, cmdline_paddr, rsdp_paddr;
    u64 memmap_paddr; // from version 1
    u32 memmap_entries, reserved;
};

struct module {
    u64 paddr, size, cmdline_paddr, reserved;
};

struct memmap_entry {
    u64 addr, size;
    u32 type, reserved;
};

static void dump_start_info(const struct start_info *info)
{
    begin("start_info");
    field("address", (u32)info);
    field("magic", info->magic);
    if (info->magic != 0x336ec578)
        return;
    field("version", info->version);
    field("flags", info->flags);
    field("nr_modules", info->nr_modules);
    field("modlist_paddr", info->modlist_paddr);
    field("cmdline_paddr", info->cmdline_paddr);
    field("rsdp_paddr", info->rsdp_paddr);
    if (info->version >= 1) {
        field("memmap_paddr", info->memmap_paddr);
        field("memmap_entries", info->memmap_entries);
        field("reserved", info->reserved);
    }
    if (info->cmdline_paddr) {
        begin("cmdline");
        field_text("text", info->cmdline_paddr);
    }
    for (u32 i = 0; i < info->nr_modules && i < 8; i++) {
        const struct module *module = (const struct module *)(u32)info->modlist_paddr + i;

        begin("module");
        field("paddr", module->paddr);
        field("size", module->size);
        field("cmdline_paddr", module->cmdline_paddr);
        field("reserved", module->reserved);
        field("crc32", crc32((const u8 *)(u32)module->paddr, module->size));
        field_text("text", module->cmdline_paddr);
    }
    for (u32 i = 0; info->version >= 1 && i < info->memmap_entries && i < 64; i++) {
        const struct memmap_entry *entry = (const struct memmap_entry *)(u32)info->memmap_paddr + i;

        begin("memmap");
        field("addr", entry->addr);
        field("size", entry->size);
        field("type", entry->type);
        field("reserved", entry->reserved);
    }
}

void dump(const struct start_info *info)
{
    put('\n');
    begin("begin");
    dump_cpu();
    dump_hypervisor();
    dump_start_info(info);
    begin("end");
}
