/* SPDX-License-Identifier: 0BSD */
/*
 * The preloaded metadata: a list of (u32 type, u32 size, that many bytes, padded to 8), first of the kernel, then
 * of each module, as stand/i386/libi386/bootinfo64.c writes it. Addresses are physical; the kernel adds KERNBASE.
 */
#include "freebsd.h"

#define ELF64_HEADER 64 /* sizeof (Elf64_Ehdr) */
#define ELF_MAGIC 0x464c457fu

static uint8_t metadata[24 * PAGE] __attribute__((aligned(4096)));
static uint32_t used;

static void *reserve(uint32_t type, uint32_t size)
{
    uint32_t *head = (uint32_t *)(metadata + used);
    uint32_t padded = (size + 7) & ~7u;

    if (size > sizeof metadata || padded + 8 > sizeof metadata - used)
        die("its metadata do not fit");
    head[0] = type;
    head[1] = size;
    used += 8 + padded;
    return head + 2;
}

static void put(uint32_t type, const void *from, uint32_t size)
{
    bb_copy(reserve(type, size), from, size);
}

static void put_text(uint32_t type, const char *text, uint32_t size)
{
    char *to = reserve(type, size + 1);

    bb_copy(to, text, size);
    to[size] = 0;
}

static void put_number(uint32_t type, uint64_t value)
{
    put(type, &value, sizeof value);
}

static void put_file(const char *name, uint32_t name_size, const char *type, uint32_t type_size)
{
    put_text(MODINFO_NAME, name, name_size);
    put_text(MODINFO_TYPE, type, type_size);
}

static void put_elf_header(uint64_t at)
{
    if (*(const uint32_t *)at == ELF_MAGIC)
        put(MODINFO_METADATA | MODINFOMD_ELFHDR, (const void *)at, ELF64_HEADER);
}

static void put_memory_map(const struct bb_handover *record)
{
    const struct bb_memory *memory = (const struct bb_memory *)record->memmap;
    struct bios_smap *smap =
        reserve(MODINFO_METADATA | MODINFOMD_SMAP, record->memmap_count * (uint32_t)sizeof *smap);

    for (uint32_t i = 0; i < record->memmap_count; i++) {
        smap[i].base = memory[i].address;
        smap[i].length = memory[i].size;
        smap[i].type = memory[i].type;
    }
}

/* The firmware's own map in the SMAP's place; the kernel takes it for a sign that EFI is there. */
static void put_efi_map(const struct bb_handover *record)
{
    struct efi_map_header *head = reserve(MODINFO_METADATA | MODINFOMD_EFI_MAP,
                                          (uint32_t)(sizeof *head + record->efi_memmap_size));

    head->memory_size = record->efi_memmap_size;
    head->descriptor_size = record->efi_memmap_descriptor_size;
    head->descriptor_version = record->efi_memmap_descriptor_version;
    bb_copy(head + 1, (const void *)record->efi_memmap, record->efi_memmap_size);
}

static uint32_t mask(uint8_t position, uint8_t size)
{
    return (uint32_t)(((1ull << size) - 1) << position);
}

/* What vt_efifb draws on, which asks for nothing else of EFI (sys/dev/vt/hw/efifb/efifb.c). */
static void put_screen(const struct bb_handover *record)
{
    const struct bb_framebuffer *from = (const struct bb_framebuffer *)record->framebuffer;
    struct efi_fb *to;

    if (!from || from->bits_per_pixel % 8 || !from->bits_per_pixel)
        return;
    to = reserve(MODINFO_METADATA | MODINFOMD_EFI_FB, sizeof *to);
    to->address = from->address;
    to->size = from->size;
    to->height = from->height;
    to->width = from->width;
    to->stride = from->pitch / (from->bits_per_pixel / 8);
    to->red = mask(from->red_position, from->red_size);
    to->green = mask(from->green_position, from->green_size);
    to->blue = mask(from->blue_position, from->blue_size);
    to->reserved = mask(0, (uint8_t)from->bits_per_pixel) & ~(to->red | to->green | to->blue);
}

static int is_symbols(const struct file *file)
{
    return same(file->type, file->type_size, "symbols");
}

static void put_symbols(const struct file *file)
{
    put_number(MODINFO_METADATA | MODINFOMD_SSYM, file->address);
    put_number(MODINFO_METADATA | MODINFOMD_ESYM, file->address + file->size);
}

static void put_kernel(const struct bb_handover *record, const struct file *files, struct environment environment,
                       uint32_t kernend)
{
    static const char name[] = "/boot/kernel/kernel", type[] = "elf kernel";

    put_file(name, sizeof name - 1, type, sizeof type - 1);
    put_number(MODINFO_ADDR, bb_params.map_paddr);
    put_number(MODINFO_SIZE, bb_params.stub_base - bb_params.map_paddr);
    put_elf_header(bb_params.map_paddr);
    for (uint32_t i = 0; i < record->module_count; i++)
        if (is_symbols(&files[i]))
            put_symbols(&files[i]);
    put(MODINFO_METADATA | MODINFOMD_HOWTO, &environment.howto, sizeof environment.howto);
    put_number(MODINFO_METADATA | MODINFOMD_ENVP, (uint64_t)environment.start);
    put_number(MODINFO_METADATA | MODINFOMD_KERNEND, kernend);
    put_number(MODINFO_METADATA | MODINFOMD_MODULEP, (uint64_t)metadata);
    if (record->efi_system_table)
        put_number(MODINFO_METADATA | MODINFOMD_FW_HANDLE, record->efi_system_table);
    if (record->efi_memmap_size)
        put_efi_map(record);
    else
        put_memory_map(record);
    put_screen(record);
}

uint32_t build_metadata(const struct bb_handover *record, const struct file *files, struct environment environment,
                        uint32_t kernend)
{
    put_kernel(record, files, environment, kernend);
    for (uint32_t i = 0; i < record->module_count; i++) {
        const struct file *file = &files[i];

        if (is_symbols(file))
            continue;
        put_file(file->name, file->name_size, file->type, file->type_size);
        if (*file->arguments)
            put_text(MODINFO_ARGS, file->arguments, (uint32_t)bb_length(file->arguments));
        put_number(MODINFO_ADDR, file->address);
        put_number(MODINFO_SIZE, file->size);
    }
    reserve(MODINFO_END, 0);
    return (uint32_t)(uint64_t)metadata;
}
