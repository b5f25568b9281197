/* SPDX-License-Identifier: 0BSD */
/*
 * What of Linux's struct boot_params loaders fill: Documentation/arch/x86/zero-page.rst and boot.rst. Everything else
 * stays 0, the sentinel included.
 */
#ifndef BOOTBUILD_BOOT_PARAMS_H
#define BOOTBUILD_BOOT_PARAMS_H

#include <stdint.h>

#define E820_ROOM 128           /* E820_MAX_ENTRIES_ZEROPAGE, asm/bootparam.h */
#define COMMAND_LINE_MAX 2047   /* COMMAND_LINE_SIZE, asm/setup.h, less the NUL */
#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
#define PROTOCOL 0x020e         /* 2.14, the version that came with acpi_rsdp_addr */
#define LOADER_UNDEFINED 0xff   /* boot.rst: 0 would mean that nobody loaded a ramdisk */
#define LOADED_HIGH 1
#define SETUP_E820_EXT 1
#define SETUP_EFI 4
#define SETUP_INDIRECT 0x80000000u

/* linux/screen_info.h: types of orig_video_isVGA with a linear framebuffer, and a bit of capabilities */
#define VIDEO_TYPE_VLFB 0x23
#define VIDEO_TYPE_EFI 0x70
#define VIDEO_CAPABILITY_64BIT_BASE 2

/* asm/efi.h: efi_loader_signature */
#define EFI32_SIGNATURE 0x32334c45 /* "EL32" */
#define EFI64_SIGNATURE 0x34364c45 /* "EL64" */

/* linux/efi.h, enum efi_secureboot_mode: secure_boot; 0 where nobody knows */
#define SECURE_BOOT_OFF 2
#define SECURE_BOOT_ON 3

struct __attribute__((packed)) screen_info {
    uint8_t pad_00[0x02];
    uint16_t ext_mem_k; /* KiB from 1 MiB on, by INT 15h 88h */
    uint8_t pad_04[0x0f - 0x04];
    uint8_t orig_video_isVGA;
    uint8_t pad_10[0x12 - 0x10];
    uint16_t lfb_width;
    uint16_t lfb_height;
    uint16_t lfb_depth;
    uint32_t lfb_base;
    uint32_t lfb_size;
    uint8_t pad_20[0x24 - 0x20];
    uint16_t lfb_linelength;
    uint8_t red_size, red_pos;
    uint8_t green_size, green_pos;
    uint8_t blue_size, blue_pos;
    uint8_t rsvd_size, rsvd_pos;
    uint8_t pad_2e[0x36 - 0x2e];
    uint32_t capabilities;
    uint32_t ext_lfb_base;
    uint8_t pad_3e[0x40 - 0x3e];
};

struct efi_info {
    uint32_t loader_signature;
    uint32_t systab;
    uint32_t memdesc_size;
    uint32_t memdesc_version;
    uint32_t memmap;
    uint32_t memmap_size;
    uint32_t systab_hi;
    uint32_t memmap_hi;
};

struct __attribute__((packed)) e820_entry {
    uint64_t address;
    uint64_t size;
    uint32_t type; /* the numbers of ACPI, as in the record */
};

struct __attribute__((packed)) boot_params {
    struct screen_info screen_info;
    uint8_t pad_040[0x070 - 0x040];
    uint64_t acpi_rsdp_addr;
    uint8_t pad_078[0x0c0 - 0x078];
    uint32_t ext_ramdisk_image;
    uint32_t ext_ramdisk_size;
    uint32_t ext_cmd_line_ptr;
    uint8_t pad_0cc[0x1c0 - 0x0cc];
    struct efi_info efi_info;
    uint32_t alt_mem_k; /* KiB from 1 MiB on, by INT 15h E801 */
    uint32_t scratch;
    uint8_t e820_entries;
    uint8_t pad_1e9[0x1ec - 0x1e9];
    uint8_t secure_boot;
    uint8_t pad_1ed[0x1ef - 0x1ed];
    uint8_t sentinel; /* not 0: the loader copied what is before the header too, of which nothing holds */
    uint8_t pad_1f0[0x1fe - 0x1f0];
    uint16_t boot_flag; /* from 0x1f1 on: struct setup_header */
    uint16_t jump;
    uint32_t header;
    uint16_t version;
    uint8_t pad_208[0x210 - 0x208];
    uint8_t type_of_loader;
    uint8_t loadflags;
    uint8_t pad_212[0x218 - 0x212];
    uint32_t ramdisk_image;
    uint32_t ramdisk_size;
    uint8_t pad_220[0x228 - 0x220];
    uint32_t cmd_line_ptr;
    uint8_t pad_22c[0x250 - 0x22c];
    uint64_t setup_data;
    uint8_t pad_258[0x2d0 - 0x258];
    struct e820_entry e820_table[E820_ROOM];
    uint8_t pad_cd0[0x1000 - 0xcd0];
};

#define AT(field, at) _Static_assert(__builtin_offsetof(struct boot_params, field) == at, #field)
AT(screen_info.lfb_linelength, 0x024);
AT(screen_info.ext_lfb_base, 0x03a);
AT(acpi_rsdp_addr, 0x070);
AT(efi_info, 0x1c0);
AT(alt_mem_k, 0x1e0);
AT(sentinel, 0x1ef);
AT(ext_ramdisk_image, 0x0c0);
AT(e820_entries, 0x1e8);
AT(secure_boot, 0x1ec);
AT(boot_flag, 0x1fe);
AT(header, 0x202);
AT(type_of_loader, 0x210);
AT(ramdisk_image, 0x218);
AT(cmd_line_ptr, 0x228);
AT(setup_data, 0x250);
AT(e820_table, 0x2d0);
_Static_assert(sizeof(struct boot_params) == 4096, "one page");
#undef AT

#endif
