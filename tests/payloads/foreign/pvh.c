/* SPDX-License-Identifier: 0BSD */
/* A PVH kernel: it reads hvm_start_info, and says what is in it. */
#include "say.h"

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, cmdline, rsdp, map;
    uint32_t map_entries, reserved;
};

void kernel(uint32_t eax, const struct start_info *info)
{
    const uint64_t *entry;

    (void)eax;
    if (info->magic != 0x336ec578) {
        text("pvh kernel: not started by PVH\n");
        return;
    }
    text("pvh kernel: started\n");
    line("cmdline ", info->cmdline ? (const char *)(uint32_t)info->cmdline : "");
    entry = (const uint64_t *)(uint32_t)info->module_list;
    for (uint32_t i = 0; i < info->modules; i++, entry += 4)
        module((uint32_t)entry[0], (uint32_t)entry[1], entry[2] ? (const char *)(uint32_t)entry[2] : "");
    entry = (const uint64_t *)(uint32_t)info->map;
    for (uint32_t i = 0; info->version && i < info->map_entries; i++, entry += 3)
        memory(entry[0], entry[1], (uint32_t)entry[2]);
    if (info->rsdp)
        root_pointer((const char *)(uint32_t)info->rsdp);
    if (info->version)
        pair((const uint32_t *)(info + 1));
    text("pvh kernel: done\n");
}
