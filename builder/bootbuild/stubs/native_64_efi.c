/* SPDX-License-Identifier: 0BSD */
/*
 * The kernel's linked range beside what the firmware maps: in a copy of the firmware's top table, of four levels or five,
 * which itself may be read-only. All tables below that are the firmware's own, so that what it changes there holds under
 * the copy too.
 */
#define BB_TABLES (2 + LINKED_TABLES)
#include <bootbuild/page_tables.h>

#define CR4_LA57 0x1000

static const char mapped[] = "the firmware has mapped the addresses at which it is linked";

static void __attribute__((noreturn)) die(const char *reason)
{
    bb_give_up("a kernel beside living boot services", reason);
}

uint64_t *bb_beside_firmware(void)
{
    uint64_t *firmware, *top = pool[used++], *tables = top;
    bb_address cr3, cr4;

    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    firmware = (uint64_t *)(cr3 & 0xffffffffff000);
    if (!bb_params.map_size)
        return (uint64_t *)cr3;
    bb_copy(top, firmware, sizeof *pool);
    if (cr4 & CR4_LA57) { /* of five levels: the upper half of four is in the last entry */
        if (top[ENTRIES - 1])
            die(mapped);
        tables = below(top, ENTRIES - 1);
    }
    for (uint64_t at = bb_params.map_vaddr; at - bb_params.map_vaddr < bb_params.map_size; at += GRANULE)
        if (tables[at >> 39 & (ENTRIES - 1)])
            die(mapped);
    map_linked(tables);
    return top;
}
