/* SPDX-License-Identifier: 0BSD */
/* The Multiboot2 information structure as it is made here: Multiboot2 2.0, 3.6; offsets as GRUB's multiboot2.h has them. */
#ifndef MULTIBOOT2_TAGS_H
#define MULTIBOOT2_TAGS_H

#include <bootbuild/waist.h>

#define TAG_END 0
#define TAG_CMDLINE 1
#define TAG_LOADER_NAME 2
#define TAG_MODULE 3
#define TAG_MEMORY 4
#define TAG_MEMORY_MAP 6
#define TAG_FRAMEBUFFER 8
#define TAG_EFI64 12
#define TAG_ACPI_OLD 14
#define TAG_ACPI_NEW 15
#define TAG_EFI_MEMORY_MAP 17
#define TAG_LOAD_BASE 21
#define TAG_BOOTBUILD BB_HANDOVER_MAGIC /* not the specification's: the record, for who looks for it */

struct tag {
    uint32_t type;
    uint32_t size; /* bytes, these eight included; the next tag begins at the next multiple of 8 */
};

struct tag_module {
    uint32_t start;
    uint32_t end; /* behind its last byte */
    char string[];
};

struct tag_memory {
    uint32_t lower; /* KiB from 0 */
    uint32_t upper; /* KiB from 1 MiB */
};

struct tag_memory_map {
    uint32_t entry_size;
    uint32_t entry_version;
    struct bb_memory entry[]; /* as multiboot_mmap_entry: types are ACPI's, what is not known is reserved */
};

struct __attribute__((packed)) tag_framebuffer {
    uint64_t address;
    uint32_t pitch;
    uint32_t width;
    uint32_t height;
    uint8_t bits_per_pixel;
    uint8_t type; /* FRAMEBUFFER_RGB */
    uint16_t reserved;
    uint8_t red_position, red_size;
    uint8_t green_position, green_size;
    uint8_t blue_position, blue_size;
};
#define FRAMEBUFFER_RGB 1

struct tag_efi_memory_map {
    uint32_t descriptor_size;
    uint32_t descriptor_version;
    uint8_t descriptors[];
};

/* ACPI 6.5, 5.2.5.3 */
struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision; /* 0: 20 bytes, without a length */
    uint32_t rsdt;
    uint32_t length; /* bytes */
};
#define RSDP_OLD_SIZE 20

/* What the back is told of the kernel it enters, by what that kernel's own header asks for: multiboot2.py. */
struct multiboot2_settings {
    uint32_t load_base;     /* physical address of its lowest byte if it wants to know, else 0 */
    uint32_t align_modules; /* whether it asks for modules that begin at a page */
};

extern const struct multiboot2_settings bb_multiboot2_settings;

_Static_assert(sizeof(struct bb_memory) == 24, "multiboot_mmap_entry");
_Static_assert(sizeof(struct tag_framebuffer) == 38 - 8, "multiboot_tag_framebuffer");
_Static_assert(__builtin_offsetof(struct rsdp, length) == RSDP_OLD_SIZE, "length");

#endif
