/* SPDX-License-Identifier: 0BSD */
/*
 * The post stub under UEFI: a console on COM1, a halt, and SetVirtualAddressMap. One source for both widths; the firmware,
 * which is 64-bit, can be called at that width only. It keeps no state.
 */
#ifdef __x86_64__
#include "efi.h"
#define OF_LONG_MODE (1 << BB_POST_VIRTUAL_MAP)
#else
#include <bootbuild/waist.h>
#define OF_LONG_MODE 0
#endif

static uint64_t write_console(const struct bb_post_text *text)
{
    const char *from;
    unsigned long size;

    if (!text)
        return BB_POST_EINVAL;
    from = (const char *)(unsigned long)text->address;
    size = (unsigned long)text->size;
    if ((unsigned long)from != text->address || size != text->size)
        return BB_POST_EINVAL;
    bb_com1_write(from, size);
    return size;
}

#ifdef __x86_64__
static uint64_t set_virtual_map(const struct bb_handover *record, const struct bb_post_virtual_map *map)
{
    const struct efi_system_table *system = (const struct efi_system_table *)record->efi_system_table;

    if (!map || !map->address)
        return BB_POST_EINVAL;
    return system->runtime->set_virtual_address_map(map->size, map->descriptor_size, map->descriptor_version,
                                                    (void *)map->address);
}
#else
static uint64_t set_virtual_map(const struct bb_handover *record, const struct bb_post_virtual_map *map)
{
    (void)record;
    (void)map;
    return BB_POST_ENOSYS;
}
#endif

BB_EXPORT uint64_t bb_post(const struct bb_handover *record, uint32_t operation, void *argument)
{
    switch (operation) {
    case BB_POST_QUERY:
        return (uint64_t)BB_POST_VERSION << 32 | 1 << BB_POST_QUERY | 1 << BB_POST_CONSOLE_WRITE | 1 << BB_POST_SHUTDOWN |
               OF_LONG_MODE;
    case BB_POST_CONSOLE_WRITE:
        return write_console(argument);
    case BB_POST_SHUTDOWN:
        bb_stop(); /* power is ACPI's or the runtime services', which the kernel knows */
    case BB_POST_VIRTUAL_MAP:
        return set_virtual_map(record, argument);
    default:
        return BB_POST_ENOSYS;
    }
}
