/* SPDX-License-Identifier: 0BSD */
/* A kernel of Linux's 32-bit boot protocol: it reads boot_params, and says what is in them. */
#include "say.h"

enum { /* offsets in struct boot_params: arch/x86/include/uapi/asm/bootparam.h of Linux */
    ACPI_RSDP = 0x70,
    E820_COUNT = 0x1e8,
    HEADER_MAGIC = 0x202,
    RAMDISK = 0x218,
    RAMDISK_SIZE = 0x21c,
    CMDLINE = 0x228,
    SETUP_DATA = 0x250,
    E820 = 0x2d0,
};

#define OWN_SETUP_DATA 0x4f484242 /* bootbuild's: its record stands behind the 16 bytes of a head */

static uint32_t at(const char *params, uint32_t offset)
{
    return *(const uint32_t *)(params + offset);
}

void kernel(uint32_t eax, const char *params)
{
    (void)eax;
    text("linux kernel: started\n");
    line("cmdline ", (const char *)at(params, CMDLINE));
    if (at(params, RAMDISK_SIZE))
        module(at(params, RAMDISK), at(params, RAMDISK_SIZE), "");
    for (uint32_t i = 0, where = E820; i < (uint8_t)params[E820_COUNT]; i++, where += 20)
        memory(*(const uint64_t *)(params + where), *(const uint64_t *)(params + where + 8), at(params, where + 16));
    if (at(params, ACPI_RSDP))
        root_pointer((const char *)at(params, ACPI_RSDP));
    for (const uint32_t *data = (const uint32_t *)at(params, SETUP_DATA); data; data = (const uint32_t *)data[0])
        if (data[2] == OWN_SETUP_DATA)
            pair(data + 4);
    text("linux kernel: done\n");
}
