/* SPDX-License-Identifier: 0BSD */
/* Page tables: the first 4 GiB one to one, and the kernel's linked range, by pages of 2 MiB. */
#define BB_TABLES (LOW_TABLES + LINKED_TABLES)
#include <bootbuild/page_tables.h>

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
    map_low(top);
    map_linked(top);
    return top;
}
