/* SPDX-License-Identifier: 0BSD */
/* What a loader may have left undone: rust-vmm's linux-loader copies p_filesz bytes and zeroes nothing. */
#include <bootbuild/waist.h>

#include "start_info.h"

static int in(uint64_t address, uint64_t size, const struct bb_range *range)
{
    return address && size && address < range->base + range->size && range->base < address + size;
}

/* Whether anything that the environment handed over lies in the range: then the loader gave it as memory. */
static int holds(const struct bb_range *range, const struct start_info *info)
{
    const struct start_module *module = (const struct start_module *)(uint32_t)info->modlist_paddr;

    if (in((uint32_t)info, START_INFO_SIZE_0, range) || in(info->cmdline_paddr, 1, range))
        return 1;
    if (info->version && in(info->memmap_paddr, (uint64_t)info->memmap_entries * sizeof(struct start_memory), range))
        return 1;
    if (in(info->modlist_paddr, (uint64_t)info->nr_modules * sizeof *module, range))
        return 1;
    for (uint32_t i = 0; info->modlist_paddr < 1ull << 32 && i < info->nr_modules; i++)
        if (in(module[i].paddr, module[i].size, range) || in(module[i].cmdline_paddr, 1, range))
            return 1;
    return 0;
}

void bb_pvh_before(const struct start_info *info)
{
    int known = info && info->magic == START_MAGIC;

    for (uint32_t i = 0; known && i < bb_params.zero_count; i++)
        if (!holds(&bb_params.zero[i], info))
            bb_clear((void *)(uint32_t)bb_params.zero[i].base, (uint32_t)bb_params.zero[i].size);
}
