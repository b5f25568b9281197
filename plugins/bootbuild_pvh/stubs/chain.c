/* SPDX-License-Identifier: 0BSD */
/* What a loader may have left undone: rust-vmm's linux-loader copies p_filesz bytes and zeroes nothing. */
#include <bootbuild/waist.h>

#include "start_info.h"

/* What is to be cleared, and the lowest thing in it that must stay: [from, to) in [at, end). */
struct search {
    uint64_t at, end;
    uint64_t from, to;
};

static void keep(struct search *search, uint64_t address, uint64_t size)
{
    uint64_t to = address + size;

    if (!address || !size || to <= search->at || address >= search->from)
        return;
    search->from = address < search->at ? search->at : address;
    search->to = to;
}

static void keep_text(struct search *search, uint64_t address)
{
    if (address && address < search->end) /* a string elsewhere need not be read, nor be below 4 GiB */
        keep(search, address, (uint64_t)bb_length((const char *)(uint32_t)address) + 1);
}

/* Everything that the environment handed over: the loader gave it this .bss as memory. */
static void keep_all(struct search *search, const struct start_info *info)
{
    const struct start_module *module = (const struct start_module *)(uint32_t)info->modlist_paddr;

    keep(search, (uint32_t)info, info->version ? sizeof *info : START_INFO_SIZE_0);
    keep_text(search, info->cmdline_paddr);
    if (info->version)
        keep(search, info->memmap_paddr, (uint64_t)info->memmap_entries * sizeof(struct start_memory));
    keep(search, info->modlist_paddr, (uint64_t)info->nr_modules * sizeof *module);
    for (uint32_t i = 0; info->modlist_paddr < 1ull << 32 && i < info->nr_modules; i++) {
        keep(search, module[i].paddr, module[i].size);
        keep_text(search, module[i].cmdline_paddr);
    }
}

/* Clears a range around what must stay. */
static void clear(const struct bb_range *range, const struct start_info *info)
{
    struct search search = {range->base, range->base + range->size, 0, 0};

    while (search.at < search.end) {
        search.from = search.to = search.end;
        keep_all(&search, info);
        bb_clear((void *)(uint32_t)search.at, (uint32_t)(search.from - search.at));
        search.at = search.to;
    }
}

void bb_pvh_before(const struct start_info *info)
{
    int known = info && info->magic == START_MAGIC;

    for (uint32_t i = 0; known && i < bb_params.zero_count; i++)
        clear(&bb_params.zero[i], info);
}
