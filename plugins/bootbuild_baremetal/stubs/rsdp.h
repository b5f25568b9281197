/* SPDX-License-Identifier: 0BSD */
/* The search for ACPI's root pointer, under a BIOS. */
#ifndef RSDP_H
#define RSDP_H

#include <stdint.h>

#define RSDP_SUMMED 20 /* bytes: all that revision 0 has */

/* "RSD PTR " at a multiple of 16, and the sum of its first 20 bytes 0: ACPI 6.5, 5.2.5.1. */
static uint32_t find_rsdp(uint32_t from, uint32_t size)
{
    for (uint32_t at = from; at < from + size; at += 16) {
        const uint8_t *byte = (const uint8_t *)at;
        const uint32_t *word = (const uint32_t *)at;
        uint8_t sum = 0;

        if (word[0] != 0x20445352 || word[1] != 0x20525450)
            continue;
        for (unsigned i = 0; i < RSDP_SUMMED; i++)
            sum += byte[i];
        if (!sum)
            return at;
    }
    return 0;
}

/* Where nobody says where ACPI is: on a PC's BIOS it is found in the EBDA, or below 1 MiB. */
static uint32_t search_rsdp(void)
{
    const uint16_t *segment = (const uint16_t *)0x40e;
    uint32_t ebda, found = 0;

    __asm__("" : "+r"(segment)); /* gcc takes an address so low for a null pointer's field */
    ebda = (uint32_t)*segment << 4;
    if (ebda >= 0x80000 && ebda < 0xa0000)
        found = find_rsdp(ebda, 1024);
    return found ? found : find_rsdp(0xe0000, 0x20000);
}

#endif
