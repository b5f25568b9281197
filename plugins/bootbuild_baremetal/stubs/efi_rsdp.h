/* SPDX-License-Identifier: 0BSD */
/* ACPI's root pointer by EFI's configuration table: UEFI 2.10, 4.3 and 4.6. Nothing that it says is followed unchecked. */
#ifndef EFI_RSDP_H
#define EFI_RSDP_H

#include <bootbuild/front.h>

#include "rsdp.h"

#define EFI_SYSTEM_TABLE_SIGNATURE 0x5453595320494249 /* "IBI SYST" */
#define MAX_CONFIGURATIONS 1024 /* firmware has a dozen; a longer list is taken for damage */

struct efi_configuration {
    uint64_t guid[2];
    uint64_t table;
};

/* Of 64-bit firmware. */
struct efi_system_table {
    uint64_t signature;
    uint8_t rest[96]; /* of the header, consoles and services */
    uint64_t configuration_count;
    uint64_t configurations;
};

_Static_assert(__builtin_offsetof(struct efi_system_table, configuration_count) == 104, "NumberOfTableEntries");
_Static_assert(sizeof(struct efi_system_table) == 120 && sizeof(struct efi_configuration) == 24, "as UEFI has them");

/* A pointer, or 0 unless all of it lies below 4 GiB in one entry of the memory map: the rest may be nothing, or devices. */
static const void *efi_listed(uint64_t at, uint64_t size)
{
    if (at >= 1ull << 32 || size > (1ull << 32) - at)
        return 0;
    for (uint32_t i = 0; i < bb_record.memmap_count; i++) {
        const struct bb_memory *entry = bb_memory_map + i;

        if (at >= entry->address && size <= entry->size && at - entry->address <= entry->size - size)
            return (const void *)(uint32_t)at;
    }
    return 0;
}

/* ACPI 2.0's, else 1.0's, which has no 64-bit tables; 0 without a sound one. */
static uint32_t efi_rsdp(uint64_t system_table)
{
    static const uint64_t acpi_20[] = {0x11d3e4f18868e871, 0x81883cc7800022bc};
    static const uint64_t acpi_10[] = {0x11d32d88eb9d2d30, 0x4dc13f279000169a};
    const struct efi_system_table *system = efi_listed(system_table, sizeof *system);
    const struct efi_configuration *found;
    uint32_t old = 0;

    if (!system || system->signature != EFI_SYSTEM_TABLE_SIGNATURE || system->configuration_count > MAX_CONFIGURATIONS)
        return 0;
    found = efi_listed(system->configurations, system->configuration_count * sizeof *found);
    for (uint64_t left = found ? system->configuration_count : 0; left; left--, found++) {
        int new = found->guid[0] == acpi_20[0] && found->guid[1] == acpi_20[1];
        uint32_t rsdp;

        if (!new && (found->guid[0] != acpi_10[0] || found->guid[1] != acpi_10[1]))
            continue;
        rsdp = efi_listed(found->table, RSDP_SUMMED) ? find_rsdp((uint32_t)found->table, 1) : 0;
        if (rsdp && new)
            return rsdp;
        if (rsdp)
            old = rsdp;
    }
    return old;
}

#endif
