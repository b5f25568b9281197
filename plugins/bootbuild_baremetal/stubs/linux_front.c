/* SPDX-License-Identifier: 0BSD */
/* From boot_params to the record: Documentation/arch/x86/zero-page.rst. What lies above 4 GiB is copied down. */
#include <bootbuild/boot_params.h>

#define STARTED_BY "the Linux boot protocol"
#include "baremetal.h"
#include "efi_rsdp.h"
#include "far.h"

#define MAX_SETUP_DATA 64 /* nodes; a longer list is taken for a loop */
#define LOWMEM_END 0x9f000 /* what Linux takes for granted where no map says it: arch/x86/kernel/e820.c */
#define MiB 0x100000
#define ABOVE(address) ((address) >> 32 != 0)

static struct boot_params page;
static int firmware_is_virtual; /* kexec: the kernel before us has given it its addresses, and that is done once */

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

static void add_e820(const struct e820_entry *entry)
{
    bb_add_memory(entry->address, entry->size, entry->type);
}

/* SETUP_E820_EXT: what the table had no room for. */
static void take_more_e820(uint64_t at, uint64_t size)
{
    struct e820_entry entry;

    for (; size >= sizeof entry; size -= sizeof entry, at += sizeof entry) {
        far_copy(&entry, at, sizeof entry);
        add_e820(&entry);
    }
}

/* boot.rst, "setup_data": what lies elsewhere. */
struct setup_indirect {
    uint32_t type, reserved;
    uint64_t len, address;
};

static void take_setup_data(void)
{
    struct bb_setup_header node;
    struct setup_indirect other;
    unsigned count = 0;

    for (uint64_t at = page.setup_data; at; at = node.next) {
        if (++count > MAX_SETUP_DATA)
            bb_die("the list of setup_data does not end");
        far_copy(&node, at, sizeof node);
        if (node.type == SETUP_E820_EXT)
            take_more_e820(at + sizeof node, node.len);
        firmware_is_virtual |= node.type == SETUP_EFI;
        if (node.type != SETUP_INDIRECT || node.len < sizeof other)
            continue;
        far_copy(&other, at + sizeof node, sizeof other);
        if (other.type == (SETUP_INDIRECT | SETUP_E820_EXT))
            take_more_e820(other.address, other.len);
    }
}

static void take_memory(void)
{
    uint32_t upper = page.alt_mem_k > page.screen_info.ext_mem_k ? page.alt_mem_k : page.screen_info.ext_mem_k;

    if (page.e820_entries > E820_ROOM)
        bb_die("boot_params counts more than 128 entries of e820");
    for (unsigned i = 0; i < page.e820_entries; i++)
        add_e820(&page.e820_table[i]);
    take_setup_data();
    if (bb_record.memmap_count)
        return;
    if (!upper)
        bb_die("boot_params has no memory map");
    bb_add_memory(0, LOWMEM_END, BB_MEMORY_RAM);
    bb_add_memory(MiB, (uint64_t)upper << 10, BB_MEMORY_RAM);
}

static void take_cmdline(void)
{
    uint64_t at = join(page.cmd_line_ptr, page.ext_cmd_line_ptr);
    char *to = bb_strings + bb_strings_used;

    if (!ABOVE(at)) {
        bb_record.cmdline = bb_copy_string(at);
        return;
    }
    bb_record.cmdline = (bb_address)to;
    do {
        if (bb_strings_used == BB_MAX_STRINGS)
            bb_die("the command lines take more than 8192 bytes");
        far_copy(to, at++, 1);
        bb_strings_used++;
    } while (*to++);
}

static void take_ramdisk(void)
{
    uint64_t at = join(page.ramdisk_image, page.ext_ramdisk_image);
    uint64_t size = join(page.ramdisk_size, page.ext_ramdisk_size);
    const struct bb_range kept[] = {{bb_record.data, sizeof page}};

    if (!size)
        return;
    if (size > UINT32_MAX)
        bb_die("the initrd has more than 4 GiB");
    if (ABOVE(at + size - 1)) {
        uint64_t to = bb_find_room(kept, 1, size);

        far_copy((void *)(bb_address)to, at, (uint32_t)size);
        at = to;
    }
    bb_add_module(at, size, 0);
}

static int has_efi(void)
{
    return page.efi_info.loader_signature == EFI32_SIGNATURE || page.efi_info.loader_signature == EFI64_SIGNATURE;
}

static void take_efi(void)
{
    const struct efi_info *efi = &page.efi_info;
    uint64_t table = join(efi->systab, efi->systab_hi), map = join(efi->memmap, efi->memmap_hi);

    if (!has_efi())
        return;
    if (efi->loader_signature == EFI32_SIGNATURE) { /* the upper halves came later */
        table = efi->systab;
        map = efi->memmap;
    }
    if (!ABOVE(table))
        bb_record.efi_system_table = table;
    if (firmware_is_virtual || !map || !efi->memmap_size || ABOVE(map + efi->memmap_size - 1))
        return;
    bb_record.efi_memmap = map;
    bb_record.efi_memmap_size = efi->memmap_size;
    bb_record.efi_memmap_descriptor_size = efi->memdesc_size;
    bb_record.efi_memmap_descriptor_version = efi->memdesc_version;
}

/* Loaders may leave the search to the kernel: those under a BIOS, and GRUB 2.06 on UEFI. */
static void take_rsdp(void)
{
    if (page.acpi_rsdp_addr)
        bb_record.rsdp = ABOVE(page.acpi_rsdp_addr) ? 0 : page.acpi_rsdp_addr;
    else if (!has_efi())
        bb_record.rsdp = search_rsdp();
    else if (page.efi_info.loader_signature == EFI64_SIGNATURE && !firmware_is_virtual)
        bb_record.rsdp = efi_rsdp(bb_record.efi_system_table);
}

static void take_screen(void)
{
    const struct screen_info *screen = &page.screen_info;
    struct bb_framebuffer shape = {0};

    if (screen->orig_video_isVGA != VIDEO_TYPE_VLFB && screen->orig_video_isVGA != VIDEO_TYPE_EFI)
        return;
    shape.address = screen->lfb_base;
    if (screen->capabilities & VIDEO_CAPABILITY_64BIT_BASE)
        shape.address = join(screen->lfb_base, screen->ext_lfb_base);
    shape.size = (uint64_t)screen->lfb_linelength * screen->lfb_height;
    shape.width = screen->lfb_width;
    shape.height = screen->lfb_height;
    shape.pitch = screen->lfb_linelength;
    shape.bits_per_pixel = screen->lfb_depth;
    shape.red_position = screen->red_pos;
    shape.red_size = screen->red_size;
    shape.green_position = screen->green_pos;
    shape.green_size = screen->green_size;
    shape.blue_position = screen->blue_pos;
    shape.blue_size = screen->blue_size;
    set_framebuffer(&shape);
}

struct bb_handover *bb_linux_main(uint32_t boot_type, uint32_t low, uint32_t high)
{
    uint64_t at = join(low, high);

    far_copy(&page, at, sizeof page);
    if (!at || page.header != HEADER_MAGIC) /* GRUB leaves boot_flag 0 */
        bb_die("there is no boot_params with the setup header");
    if (page.sentinel) /* such a loader has left what it did not know of as it was in the file: code */
        page.ext_ramdisk_image = page.ext_ramdisk_size = page.ext_cmd_line_ptr = page.acpi_rsdp_addr = 0;
    begin(boot_type);
    if (ABOVE(at + sizeof page - 1)) {
        bb_record.data = (bb_address)&page;
        bb_record.flags |= BB_FLAG_DATA_COPIED;
    } else {
        keep_data((const void *)low, sizeof page, &page);
    }
    /* Our own real-mode code has asked the BIOS for the map. */
    if (page.e820_entries && !(bb_record.flags & BB_FLAG_DATA_COPIED) && boot_type != BB_BOOT_LINUX_16) {
        bb_record.env_memmap = bb_record.data + __builtin_offsetof(struct boot_params, e820_table);
        bb_record.env_memmap_size = page.e820_entries * sizeof *page.e820_table;
    }
    if (page.secure_boot == SECURE_BOOT_ON)
        bb_record.flags |= BB_FLAG_SECURE_BOOT;
    take_memory();
    take_cmdline();
    take_ramdisk();
    take_efi();
    take_rsdp();
    take_screen();
    return finish(sizeof page);
}
