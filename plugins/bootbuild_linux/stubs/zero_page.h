/* SPDX-License-Identifier: 0BSD */
/*
 * What of Linux's struct boot_params a loader fills: Documentation/arch/x86/zero-page.rst and boot.rst. Everything else
 * stays 0, the sentinel included.
 */
#ifndef LINUX_ZERO_PAGE_H
#define LINUX_ZERO_PAGE_H

#include <stdint.h>

#define E820_ROOM 128           /* E820_MAX_ENTRIES_ZEROPAGE, asm/bootparam.h */
#define COMMAND_LINE_MAX 2047   /* COMMAND_LINE_SIZE, asm/setup.h, less the NUL */
#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
#define PROTOCOL 0x020e         /* 2.14, the version that came with acpi_rsdp_addr */
#define LOADER_UNDEFINED 0xff   /* boot.rst: 0 would mean that nobody loaded a ramdisk */
#define LOADED_HIGH 1
#define SETUP_E820_EXT 1

struct __attribute__((packed)) e820_entry {
    uint64_t address;
    uint64_t size;
    uint32_t type; /* the numbers of ACPI, as in the record */
};

struct __attribute__((packed)) boot_params {
    uint8_t pad_000[0x070];
    uint64_t acpi_rsdp_addr;
    uint8_t pad_078[0x0c0 - 0x078];
    uint32_t ext_ramdisk_image;
    uint32_t ext_ramdisk_size;
    uint32_t ext_cmd_line_ptr;
    uint8_t pad_0cc[0x1e8 - 0x0cc];
    uint8_t e820_entries;
    uint8_t pad_1e9[0x1fe - 0x1e9];
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
AT(acpi_rsdp_addr, 0x070);
AT(ext_ramdisk_image, 0x0c0);
AT(e820_entries, 0x1e8);
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
