/* SPDX-License-Identifier: 0BSD */
/* From the record to Linux's boot_params. One source for both widths. */
#include <bootbuild/boot_params.h>
#include <bootbuild/waist.h>

#define ISA_HOLE 0xa0000 /* video memory and option ROMs of a PC, up to 1 MiB */
#define ISA_HOLE_END 0x100000
#define EFI_HEADER_SIZE 12     /* offset of HeaderSize in an EFI table (UEFI 2.10, 4.2) */
#define EFI64_SYSTEM_TABLE 120 /* bytes that a system table has; one of 32-bit firmware has 72 */

static struct boot_params params __attribute__((aligned(4096)));
static struct bb_setup_data pair;
static struct {
    struct bb_setup_header header;
    struct e820_entry table[BB_MAX_MEMORY + 1 - E820_ROOM];
} more __attribute__((aligned(8)));
static unsigned entries;

static void __attribute__((noreturn)) die(const char *reason)
{
    bb_give_up("Linux", reason);
}

static void add_entry(uint64_t address, uint64_t size, uint32_t type)
{
    struct e820_entry *entry =
        entries < E820_ROOM ? &params.e820_table[entries] : &more.table[entries - E820_ROOM];

    entry->address = address;
    entry->size = size;
    entry->type = type;
    entries++;
}

/*
 * A PC's memory has a hole below 1 MiB that a hypervisor's map need not mention: Linux's own PVH entry reserves it as
 * well (arch/x86/platform/pvh/enlighten.c), so that nobody puts RAM or a device there.
 */
static int needs_isa_hole(const struct bb_memory *memory, uint32_t count)
{
    uint64_t open = ISA_HOLE; /* up to here it is taken, by what is not RAM */

    for (uint32_t i = 0; i < count; i++)
        if (memory[i].type != BB_MEMORY_RAM && memory[i].address <= open &&
            memory[i].size > open - memory[i].address)
            open = memory[i].address + memory[i].size;
    return open < ISA_HOLE_END;
}

static void fill_e820(const struct bb_handover *record)
{
    const struct bb_memory *memory = (const struct bb_memory *)(unsigned long)record->memmap;

    for (uint32_t i = 0; i < record->memmap_count; i++)
        add_entry(memory[i].address, memory[i].size, memory[i].type);
    if (needs_isa_hole(memory, record->memmap_count))
        add_entry(ISA_HOLE, ISA_HOLE_END - ISA_HOLE, BB_MEMORY_RESERVED);
    params.e820_entries = (uint8_t)(entries < E820_ROOM ? entries : E820_ROOM);
}

static void fill_ramdisk(const struct bb_handover *record)
{
    const struct bb_module *module = (const struct bb_module *)(unsigned long)record->modules;

    if (!record->module_count)
        return;
    if (record->module_count > 1)
        die("it takes one ramdisk, and more modules were given");
    params.ramdisk_image = (uint32_t)module->address;
    params.ext_ramdisk_image = (uint32_t)(module->address >> 32);
    params.ramdisk_size = (uint32_t)module->size;
    params.ext_ramdisk_size = (uint32_t)(module->size >> 32);
}

static void fill_cmdline(const struct bb_handover *record)
{
    static const char none[1];
    const char *cmdline = record->cmdline ? (const char *)(unsigned long)record->cmdline : none;

    if (bb_length(cmdline) > COMMAND_LINE_MAX)
        die("its command line has more than 2047 bytes");
    params.cmd_line_ptr = (uint32_t)(unsigned long)cmdline;
}

/* Bits from the highest colour on, of which Linux adds up what a pixel has (drivers/firmware/sysfb_simplefb.c). */
static void fill_reserved_bits(struct screen_info *screen)
{
    unsigned red = screen->red_pos + screen->red_size, green = screen->green_pos + screen->green_size;
    unsigned blue = screen->blue_pos + screen->blue_size, top = red > green ? red : green;

    if (blue > top)
        top = blue;
    if (top >= screen->lfb_depth)
        return;
    screen->rsvd_pos = (uint8_t)top;
    screen->rsvd_size = (uint8_t)(screen->lfb_depth - top);
}

/* Of EFI's sort, as its stub and GRUB have it; elsewhere VESA's, of which the size is in units of 64 KiB. */
static void fill_screen(const struct bb_handover *record)
{
    const struct bb_framebuffer *from = (const struct bb_framebuffer *)(unsigned long)record->framebuffer;
    struct screen_info *screen = &params.screen_info;

    if (!from)
        return;
    screen->orig_video_isVGA = record->efi_system_table ? VIDEO_TYPE_EFI : VIDEO_TYPE_VLFB;
    screen->lfb_width = (uint16_t)from->width;
    screen->lfb_height = (uint16_t)from->height;
    screen->lfb_depth = (uint16_t)from->bits_per_pixel;
    screen->lfb_base = (uint32_t)from->address;
    screen->lfb_size = (uint32_t)(record->efi_system_table ? from->size : (from->size + 0xffff) >> 16);
    screen->lfb_linelength = (uint16_t)from->pitch;
    screen->red_pos = from->red_position;
    screen->red_size = from->red_size;
    screen->green_pos = from->green_position;
    screen->green_size = from->green_size;
    screen->blue_pos = from->blue_position;
    screen->blue_size = from->blue_size;
    fill_reserved_bits(screen);
}

/* Firmware of 64 bits may have its table above 4 GiB, where we cannot look. */
static uint32_t efi_signature(uint64_t table)
{
    if (!(table >> 32) && *(const uint32_t *)(unsigned long)(table + EFI_HEADER_SIZE) < EFI64_SYSTEM_TABLE)
        return EFI32_SIGNATURE;
    return EFI64_SIGNATURE;
}

/* Linux takes firmware for EFI's only with its map, of which it reserves the memory. */
static void fill_efi(const struct bb_handover *record)
{
    struct efi_info *efi = &params.efi_info;

    if (!record->efi_system_table || !record->efi_memmap)
        return;
    efi->loader_signature = efi_signature(record->efi_system_table);
    efi->systab = (uint32_t)record->efi_system_table;
    efi->systab_hi = (uint32_t)(record->efi_system_table >> 32);
    efi->memmap = (uint32_t)record->efi_memmap;
    efi->memmap_hi = (uint32_t)(record->efi_memmap >> 32);
    efi->memmap_size = (uint32_t)record->efi_memmap_size;
    efi->memdesc_size = record->efi_memmap_descriptor_size;
    efi->memdesc_version = record->efi_memmap_descriptor_version;
}

static uint8_t secure_boot(const struct bb_handover *record)
{
    if (record->flags & BB_FLAG_SECURE_BOOT)
        return SECURE_BOOT_ON;
    return record->boot_type == BB_BOOT_EFI ? SECURE_BOOT_OFF : 0;
}

/*
 * The record for whoever looks for it in Linux, which reserves the memory of each node. It does not reserve our stubs:
 * what lies there is left out, and boot_params says it.
 */
static void fill_setup_data(const struct bb_handover *record)
{
    pair.header.type = BB_SETUP_DATA_TYPE;
    pair.header.len = sizeof pair.record;
    bb_copy_unkept(&pair.record, record);
    params.setup_data = (unsigned long)&pair;
    if (entries > E820_ROOM) {
        more.header.type = SETUP_E820_EXT;
        more.header.len = (entries - E820_ROOM) * (uint32_t)sizeof *more.table;
        pair.header.next = (unsigned long)&more;
    }
}

struct boot_params *bb_boot_params(const struct bb_handover *record)
{
    params.boot_flag = BOOT_FLAG;
    params.header = HEADER_MAGIC;
    params.version = PROTOCOL;
    params.type_of_loader = LOADER_UNDEFINED;
    params.loadflags = LOADED_HIGH;
    params.acpi_rsdp_addr = record->rsdp;
    fill_cmdline(record);
    fill_ramdisk(record);
    fill_e820(record);
    fill_screen(record);
    fill_efi(record);
    params.secure_boot = secure_boot(record);
    fill_setup_data(record);
    return &params;
}
