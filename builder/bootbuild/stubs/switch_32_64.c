/* SPDX-License-Identifier: 0BSD */
/* Page tables: the first 4 GiB one to one, and the kernel's linked range, by pages of 2 MiB. */
#include <bootbuild/waist.h>

#define PRESENT_WRITABLE 0x3
#define LARGE 0x80
#define GRANULE 0x200000u
#define ENTRIES 512

/*
 * The identity map takes one table for each GiB and two above them. A linked range of 1 GiB at the most
 * (bootbuild refuses a larger one, BB-P026) can cross one border of a GiB and one of 512 GiB.
 */
static uint64_t pool[6 + 4][ENTRIES] __attribute__((aligned(4096)));
static unsigned used;

static uint64_t *below(uint64_t *table, unsigned index)
{
    if (!table[index])
        table[index] = (uint32_t)pool[used++] | PRESENT_WRITABLE;
    return (uint64_t *)((uint32_t)table[index] & ~0xfffu);
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

static int has_long_mode(void)
{
    return bb_cpuid(0x80000000).eax >= 0x80000001 && (bb_cpuid(0x80000001).edx >> 29 & 1);
}

uint64_t *bb_build_page_tables(void)
{
    static const char sorry[] = "bootbuild: this CPU has no long mode, which the kernel needs\n";
    uint64_t *top = pool[used++];

    if (!has_long_mode()) {
        bb_com1_write(sorry, sizeof sorry - 1);
        bb_e9_write(sorry, sizeof sorry - 1);
        bb_stop();
    }
    for (unsigned gib = 0; gib < 4; gib++)
        map(top, (uint64_t)gib << 30, (uint64_t)gib << 30, 1 << 30);
    if (bb_params.map_size) {
        uint32_t lead = (uint32_t)bb_params.map_vaddr & (GRANULE - 1);
        uint32_t size = lead + (uint32_t)bb_params.map_size + GRANULE - 1;

        map(top, bb_params.map_vaddr - lead, bb_params.map_paddr - lead, size & ~(GRANULE - 1));
    }
    return top;
}
