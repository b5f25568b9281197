/* SPDX-License-Identifier: 0BSD */
/*
 * Page tables of our own, filled by pages of 2 MiB. BB_TABLES, defined before this: how many there are at the most; without
 * it whoever includes this says where the pool is.
 */
#ifndef BOOTBUILD_PAGE_TABLES_H
#define BOOTBUILD_PAGE_TABLES_H

#include <bootbuild/waist.h>

#define PRESENT_WRITABLE 0x3
#define LARGE 0x80
#define GRANULE 0x200000u
#define ENTRIES 512

/*
 * A linked range of 1 GiB at the most (bootbuild refuses a larger one, BB-P026) can cross one border of a GiB and one of
 * 512 GiB: it takes four tables below the top one.
 */
#define LINKED_TABLES 4

#define LOW_TABLES 6 /* those of the first 4 GiB: one for each GiB, and two above them */

#ifdef BB_TABLES
static uint64_t pool[BB_TABLES][ENTRIES] __attribute__((aligned(4096)));
#else
static uint64_t (*pool)[ENTRIES];
#endif
static unsigned used;

static uint64_t *below(uint64_t *table, unsigned index)
{
    if (!table[index])
        table[index] = (bb_address)pool[used++] | PRESENT_WRITABLE;
    return (uint64_t *)((bb_address)table[index] & ~0xffful);
}

static void map(uint64_t *top, uint64_t vaddr, uint64_t paddr, uint32_t size)
{
    for (uint32_t granules = size / GRANULE; granules; granules--) {
        uint64_t *table = below(top, vaddr >> 39 & (ENTRIES - 1));

        table = below(table, vaddr >> 30 & (ENTRIES - 1));
        table[vaddr >> 21 & (ENTRIES - 1)] = paddr | LARGE | PRESENT_WRITABLE;
        vaddr += GRANULE;
        paddr += GRANULE;
    }
}

/* The first 4 GiB, one to one. */
static inline void map_low(uint64_t *top)
{
    for (unsigned gib = 0; gib < 4; gib++)
        map(top, (uint64_t)gib << 30, (uint64_t)gib << 30, 1 << 30);
}

/* The kernel's linked range, if its addresses differ from those where it is loaded. */
static inline void map_linked(uint64_t *top)
{
    uint32_t lead = (uint32_t)bb_params.map_vaddr & (GRANULE - 1);
    uint32_t size = lead + (uint32_t)bb_params.map_size + GRANULE - 1;

    if (bb_params.map_size)
        map(top, bb_params.map_vaddr - lead, bb_params.map_paddr - lead, size & ~(GRANULE - 1));
}

#endif
