/* SPDX-License-Identifier: 0BSD */
/* From the record to a Multiboot2 information structure, complete in itself: it holds no address of our stubs. */
#include "multiboot2_tags.h"

#define ROOM 0x10000 /* bytes of information; without an EFI map a front passes on at most 40 KiB */
#define LOWER_END 0xa0000
#define UPPER_START 0x100000
#define PAGE_SIZE 4096

static struct {
    uint32_t size;
    uint32_t reserved;
    uint8_t tags[ROOM - 8];
} information __attribute__((aligned(8)));

static void __attribute__((noreturn)) die(const char *reason)
{
    bb_give_up("a Multiboot2 kernel", reason);
}

/* Room for a tag with so many bytes behind type and size. What pads it to a multiple of 8 is 0, as all NOBITS. */
static void *add(uint32_t type, uint64_t size)
{
    struct tag *tag = (struct tag *)((uint8_t *)&information + information.size);

    if (size > ROOM || information.size + sizeof *tag + size > ROOM)
        die("its information would take more than 65536 bytes");
    tag->type = type;
    tag->size = (uint32_t)(sizeof *tag + size);
    information.size += (tag->size + 7) & ~7u;
    return tag + 1;
}

static void add_string(uint32_t type, const char *text)
{
    unsigned long size = bb_length(text) + 1;

    bb_copy(add(type, size), text, size);
}

/* A string of the record, or the empty one. */
static const char *string(uint64_t address)
{
    static const char none[1];

    return address ? (const char *)(uint32_t)address : none;
}

static void add_modules(const struct bb_handover *record)
{
    const struct bb_module *module = (const struct bb_module *)(uint32_t)record->modules;

    for (uint32_t i = 0; i < record->module_count; i++, module++) {
        const char *text = string(module->cmdline);
        unsigned long size = bb_length(text) + 1;
        struct tag_module *tag = add(TAG_MODULE, sizeof *tag + size);

        if (module->address + module->size > 0xffffffff)
            die("a module lies above 4 GiB");
        if (bb_multiboot2_settings.align_modules && module->address % PAGE_SIZE)
            die("it asks for modules that begin at a page, and one does not");
        tag->start = (uint32_t)module->address;
        tag->end = (uint32_t)(module->address + module->size);
        bb_copy(tag->string, text, size);
    }
}

/* KiB of memory from `start` on without a gap. The map is sorted. */
static uint32_t memory_from(const struct bb_handover *record, uint64_t start, uint64_t limit)
{
    const struct bb_memory *memory = (const struct bb_memory *)(uint32_t)record->memmap;
    uint64_t end = start;

    for (uint32_t i = 0; i < record->memmap_count; i++)
        if (memory[i].type == BB_MEMORY_RAM && memory[i].address <= end && memory[i].size > end - memory[i].address)
            end = memory[i].address + memory[i].size;
    if (end > limit)
        end = limit;
    return (uint32_t)((end - start) >> 10);
}

static void add_memory(const struct bb_handover *record)
{
    struct tag_memory *tag = add(TAG_MEMORY, sizeof *tag);
    uint64_t size = (uint64_t)record->memmap_count * sizeof(struct bb_memory);
    struct tag_memory_map *map;

    tag->lower = memory_from(record, 0, LOWER_END);
    tag->upper = memory_from(record, UPPER_START, UPPER_START + (0xffffffffull << 10));
    map = add(TAG_MEMORY_MAP, sizeof *map + size);
    map->entry_size = sizeof(struct bb_memory);
    bb_copy(map->entry, (const void *)(uint32_t)record->memmap, (uint32_t)size);
}

static void add_framebuffer(const struct bb_handover *record)
{
    const struct bb_framebuffer *from = (const struct bb_framebuffer *)(uint32_t)record->framebuffer;
    struct tag_framebuffer *tag;

    if (!from)
        return;
    tag = add(TAG_FRAMEBUFFER, sizeof *tag);
    tag->address = from->address;
    tag->pitch = from->pitch;
    tag->width = from->width;
    tag->height = from->height;
    tag->bits_per_pixel = (uint8_t)from->bits_per_pixel;
    tag->type = FRAMEBUFFER_RGB;
    bb_copy(&tag->red_position, &from->red_position, 6);
}

static void add_firmware(const struct bb_handover *record)
{
    const struct rsdp *rsdp = (const struct rsdp *)(uint32_t)record->rsdp;
    struct tag_efi_memory_map *map;

    if (record->efi_system_table)
        bb_copy(add(TAG_EFI64, 8), &record->efi_system_table, 8);
    if (rsdp && !rsdp->revision)
        bb_copy(add(TAG_ACPI_OLD, RSDP_OLD_SIZE), rsdp, RSDP_OLD_SIZE);
    else if (rsdp)
        bb_copy(add(TAG_ACPI_NEW, rsdp->length), rsdp, rsdp->length);
    if (!record->efi_memmap)
        return;
    map = add(TAG_EFI_MEMORY_MAP, sizeof *map + record->efi_memmap_size);
    map->descriptor_size = record->efi_memmap_descriptor_size;
    map->descriptor_version = record->efi_memmap_descriptor_version;
    bb_copy(map->descriptors, (const void *)(uint32_t)record->efi_memmap, (uint32_t)record->efi_memmap_size);
}

void *bb_multiboot2_information(const struct bb_handover *record)
{
    information.size = 8;
    add_string(TAG_CMDLINE, string(record->cmdline));
    add_string(TAG_LOADER_NAME, "bootbuild");
    add_modules(record);
    add_memory(record);
    add_framebuffer(record);
    add_firmware(record);
    if (bb_multiboot2_settings.load_base)
        bb_copy(add(TAG_LOAD_BASE, 4), &bb_multiboot2_settings.load_base, 4);
    bb_copy_unkept(add(TAG_BOOTBUILD, sizeof *record), record);
    add(TAG_END, 0);
    return &information;
}
