/* SPDX-License-Identifier: 0BSD */
/* Reading above 4 GiB from 32-bit code: a window of 2 MiB, opened for one piece at a time by page tables of three levels. */
#ifndef FAR_H
#define FAR_H

#include <bootbuild/waist.h>

#define FAR_GRANULE 0x200000u
#define FAR_WINDOW 0xffe00000u /* under the BIOS's ROM, where nothing is that a front reads or writes */
#define FAR_PRESENT 1
#define FAR_WRITABLE_LARGE 0x82
#define CPUID_PAE 6 /* bit of EDX of leaf 1 */

static uint64_t far_directories[4][512] __attribute__((aligned(4096)));
static uint64_t far_pointers[4] __attribute__((aligned(32)));

static void far_prepare(void)
{
    if (far_pointers[0])
        return;
    if (!(bb_cpuid(1).edx >> CPUID_PAE & 1))
        bb_die("something lies above 4 GiB, and this CPU has no PAE");
    for (uint32_t gib = 0; gib < 4; gib++)
        far_pointers[gib] = (bb_address)far_directories[gib] | FAR_PRESENT;
    for (uint32_t i = 0; i < 4 * 512; i++)
        far_directories[0][i] = (uint64_t)i * FAR_GRANULE | FAR_WRITABLE_LARGE | FAR_PRESENT;
}

/* Reads `size` bytes that lie in one granule. */
static void far_piece(void *to, uint64_t from, uint32_t size)
{
    far_prepare();
    far_directories[3][511] = (from & ~(uint64_t)(FAR_GRANULE - 1)) | FAR_WRITABLE_LARGE | FAR_PRESENT;
    __asm__ volatile("mov %0, %%cr3; mov %1, %%cr4; mov %2, %%cr0"
                     :
                     : "r"(far_pointers), "r"(0x20), "r"(0x80000011) /* PAE; PG, ET and PE */
                     : "memory");
    bb_copy(to, (const void *)(FAR_WINDOW | ((uint32_t)from & (FAR_GRANULE - 1))), size);
    __asm__ volatile("mov %0, %%cr0; mov %1, %%cr4" : : "r"(0x11), "r"(0) : "memory");
}

/* Copies to memory below 4 GiB from wherever it is, by physical address. */
static void far_copy(void *to, uint64_t from, uint32_t size)
{
    while (size) {
        uint32_t piece = FAR_GRANULE - ((uint32_t)from & (FAR_GRANULE - 1));

        if (piece > size)
            piece = size;
        if (from >> 32)
            far_piece(to, from, piece);
        else
            bb_copy(to, (const void *)(bb_address)from, piece);
        to = (char *)to + piece;
        from += piece;
        size -= piece;
    }
}

#endif
