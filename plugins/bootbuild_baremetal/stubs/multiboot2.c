/* SPDX-License-Identifier: 0BSD */
/*
 * From the Multiboot2 information to the record: Multiboot2 2.0 §3.6. The whole of it is copied first. At width 64 it is
 * UEFI's, whose boot services are alive: there is no map of memory then, which is theirs and changes.
 */
#include "multiboot.h"

#define MAGIC 0x36d76289
#define MAX_INFORMATION 0x10000 /* bytes; GRUB's has two thousand, and forty for each entry of EFI's map */

#define ON_UEFI (sizeof(bb_address) == 8)

enum { END, CMDLINE, MODULE = 3, MEMORY_MAP = 6, FRAMEBUFFER = 8, EFI32 = 11, EFI64 };
enum { ACPI_OLD = 14, ACPI_NEW, EFI_MAP = 17, EFI_BOOT_SERVICES };

struct information {
    uint32_t total_size;
    uint32_t reserved;
};

struct tag {
    uint32_t type;
    uint32_t size; /* of these words and what follows, without the padding to 8 */
    uint32_t body[];
};

struct map_entry {
    uint64_t address, size;
    uint32_t type, reserved;
};

struct framebuffer_tag {
    uint64_t address;
    uint32_t pitch, width, height;
    uint8_t bits_per_pixel, type;
    uint16_t reserved;
    uint8_t red_position, red_size, green_position, green_size, blue_position, blue_size;
};

static struct information copy[MAX_INFORMATION / sizeof(struct information)];

/* Where the kernel finds what `part` of the copy says: in the original, if that stays. */
static bb_address kept(const void *part)
{
    return (bb_address)bb_record.data + ((bb_address)part - (bb_address)copy);
}

static void need(const struct tag *tag, uint32_t size)
{
    if (tag->size < sizeof *tag + size)
        bb_die("a tag of the information is too short for its type");
}

static bb_address string(const struct tag *tag, uint32_t offset)
{
    need(tag, offset + 1);
    if (((const char *)tag)[tag->size - 1])
        bb_die("a string of the information has no end");
    return (bb_address)tag->body + offset;
}

static void take_map(const struct tag *tag)
{
    uint32_t step;

    need(tag, 8);
    step = tag->body[0];
    if (step < sizeof(struct map_entry) || step % 8)
        bb_die("the memory map's entries have an impossible size");
    bb_record.env_memmap = kept(tag->body + 2);
    bb_record.env_memmap_size = tag->size - 16;
    for (uint32_t at = 8; tag->size - sizeof *tag - at >= step; at += step) {
        const struct map_entry *entry = (const struct map_entry *)((bb_address)tag->body + at);

        bb_add_memory(entry->address, entry->size, entry->type);
    }
}

static void take_framebuffer(const struct tag *tag)
{
    const struct framebuffer_tag *given = (const struct framebuffer_tag *)tag->body;
    struct bb_framebuffer shape = {0};

    need(tag, 24); /* behind them are the colours, if it is of pixels */
    if (given->type != FRAMEBUFFER_RGB)
        return;
    need(tag, sizeof *given - 2);
    shape.address = given->address;
    shape.size = (uint64_t)given->pitch * given->height;
    shape.width = given->width;
    shape.height = given->height;
    shape.pitch = given->pitch;
    shape.bits_per_pixel = given->bits_per_pixel;
    bb_copy(&shape.red_position, &given->red_position, 6);
    set_framebuffer(&shape);
}

static void take_efi_map(const struct tag *tag)
{
    need(tag, 8);
    bb_record.efi_memmap = kept(tag->body + 2);
    bb_record.efi_memmap_size = tag->size - 16;
    bb_record.efi_memmap_descriptor_size = tag->body[0];
    bb_record.efi_memmap_descriptor_version = tag->body[1];
}

static void take(const struct tag *tag)
{
    switch (tag->type) {
    case CMDLINE:
        bb_record.cmdline = bb_copy_string(string(tag, 0));
        break;
    case MODULE:
        need(tag, 8);
        if (tag->body[1] < tag->body[0])
            bb_die("a module ends before it begins");
        bb_add_module(tag->body[0], tag->body[1] - tag->body[0], string(tag, 8));
        break;
    case MEMORY_MAP:
        take_map(tag);
        break;
    case FRAMEBUFFER:
        take_framebuffer(tag);
        break;
    case EFI32:
        need(tag, 4);
        bb_record.efi_system_table = tag->body[0];
        break;
    case EFI64:
        need(tag, 8);
        if (ON_UEFI || !tag->body[1]) /* what lies higher cannot be reached */
            bb_record.efi_system_table = (uint64_t)tag->body[1] << 32 | tag->body[0];
        break;
    case ACPI_OLD:
        if (!bb_record.rsdp)
            bb_record.rsdp = kept(tag->body);
        break;
    case ACPI_NEW:
        bb_record.rsdp = kept(tag->body);
        break;
    case EFI_MAP:
        take_efi_map(tag);
        break;
    case EFI_BOOT_SERVICES:
        if (ON_UEFI)
            bb_record.flags |= BB_FLAG_BOOT_SERVICES;
        break;
    }
}

/* EAX alone proves nothing: what EBX leads to has to be tags, the last of which ends where all of it ends. */
static void check(uint32_t magic, const struct information *start)
{
    uint32_t at = sizeof *start;

    if (magic != MAGIC || !start || (bb_address)start % 8)
        bb_die("EAX and EBX are not those of Multiboot2");
    bb_reach((bb_address)start, sizeof *start, "the information wraps at 4 GiB");
    if (start->total_size < 16 || start->total_size % 8 || start->total_size > sizeof copy)
        bb_die("the information has an impossible size, or more than 64 KiB");
    bb_reach((bb_address)start, start->total_size, "the information wraps at 4 GiB");
    bb_copy(copy, start, start->total_size);
    for (;;) {
        const struct tag *tag = (const struct tag *)((bb_address)copy + at);

        if (tag->size < sizeof *tag || tag->size > copy->total_size - at)
            bb_die("a tag of the information runs over its end");
        at += (tag->size + 7) & ~7u;
        if (tag->type == END)
            break;
        if (at >= copy->total_size)
            bb_die("the information's tags have no end");
    }
    if (at != copy->total_size)
        bb_die("the information's tags end before it does");
}

struct bb_handover *bb_multiboot_main(uint32_t magic, const struct information *start)
{
    const struct tag *tag = (const struct tag *)(copy + 1);

    check(magic, start);
    begin(BB_BOOT_MULTIBOOT2);
    keep_data(start, copy->total_size, copy);
    for (; tag->type != END; tag = (const struct tag *)((bb_address)tag + ((tag->size + 7) & ~7u)))
        take(tag);
    if (ON_UEFI && !(bb_record.flags & BB_FLAG_BOOT_SERVICES))
        bb_die("the information does not say that boot services are alive");
    if (!ON_UEFI && !bb_record.memmap_count)
        bb_die("the information has no memory map");
    return finish(copy->total_size);
}
