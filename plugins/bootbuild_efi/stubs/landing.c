/* SPDX-License-Identifier: 0BSD */
/* The second half of the front, in its place behind the payload: from what the application handed on to the record. */
#include "application.h"
#include "efi.h"
#include <bootbuild/front.h>
#define BB_TABLES (LOW_TABLES + LINKED_TABLES)
#include <bootbuild/page_tables.h>

extern uint64_t bb_post(const struct bb_handover *, uint32_t, void *);

static struct bb_framebuffer framebuffer;

/* The firmware is gone, or runs beside us: either way the consoles of a PC are what is left. */
static void bb_die(const char *reason)
{
    bb_say("bootbuild: cannot start from UEFI: ");
    bb_say(reason);
    bb_say("\n");
    bb_stop();
}

/* As an operating system may use the memory once the boot services have ended (UEFI 2.10, table 7.10). */
static uint32_t acpi_type(uint32_t type)
{
    switch (type) {
    case EFI_LOADER_CODE:
    case EFI_LOADER_DATA:
    case EFI_BOOT_SERVICES_CODE:
    case EFI_BOOT_SERVICES_DATA:
    case EFI_CONVENTIONAL:
        return BB_MEMORY_RAM;
    case EFI_UNUSABLE:
        return BB_MEMORY_UNUSABLE;
    case EFI_ACPI_RECLAIM:
        return BB_MEMORY_ACPI;
    case EFI_ACPI_NVS:
        return BB_MEMORY_NVS;
    case EFI_PERSISTENT:
        return BB_MEMORY_PERSISTENT;
    default:
        return BB_MEMORY_RESERVED;
    }
}

/* EFI tells apart who has the memory; once nobody has it any more, neighbours of one kind are one entry. */
static void merge_neighbours(void)
{
    struct bb_memory *last = bb_memory_map;

    for (uint32_t i = 1; i < bb_record.memmap_count; i++) {
        const struct bb_memory *next = bb_memory_map + i;

        if (next->type == last->type && next->address == last->address + last->size)
            last->size += next->size;
        else
            *++last = *next;
    }
    bb_record.memmap_count = (uint32_t)(last - bb_memory_map) + 1;
}

static void take_map(const struct handoff *given)
{
    bb_record.efi_memmap = given->map;
    bb_record.efi_memmap_size = given->map_size;
    bb_record.efi_memmap_descriptor_size = given->descriptor_size;
    bb_record.efi_memmap_descriptor_version = given->descriptor_version;
    for (uint64_t at = 0; at < given->map_size; at += given->descriptor_size) {
        const struct efi_memory *entry = (const struct efi_memory *)(given->map + at);

        bb_add_memory(entry->address, entry->pages * EFI_PAGE, acpi_type(entry->type));
    }
    merge_neighbours();
}

struct bb_handover *bb_efi_land(const struct handoff *given)
{
    struct bb_hypervisor hypervisor = bb_detect_hypervisor();

    bb_record.boot_type = BB_BOOT_EFI;
    bb_record.hypervisor_type = hypervisor.type;
    bb_record.hypervisor_leaf = hypervisor.leaf;
    bb_record.flags = given->flags;
    bb_record.data = given->system_table;
    bb_record.efi_system_table = given->system_table;
    bb_record.rsdp = given->rsdp;
    bb_record.cmdline = bb_copy_string(given->cmdline);
    bb_record.post_stub = (bb_address)bb_post;
    if (given->map)
        take_map(given);
    for (uint32_t i = 0; i < given->module_count; i++)
        bb_add_module(given->modules[i].address, given->modules[i].size, given->modules[i].cmdline);
    if (given->framebuffer.address) {
        framebuffer = given->framebuffer;
        bb_record.framebuffer = (bb_address)&framebuffer;
    }
    bb_clear_payload(0, 0);
    bb_seal(&bb_record);
    return &bb_record;
}

uint64_t *bb_efi_tables(void)
{
    uint64_t *top = pool[used++];

    map_low(top);
    map_linked(top);
    return top;
}
