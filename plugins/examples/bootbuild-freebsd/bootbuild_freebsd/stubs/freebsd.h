/* SPDX-License-Identifier: 0BSD */
/* What the parts of the back share, and FreeBSD's own numbers. */
#ifndef FREEBSD_H
#define FREEBSD_H

#include <bootbuild/waist.h>

#define KERNBASE 0xffffffff80000000 /* sys/amd64/include/vmparam.h */
#define PAGE 4096u
#define GIB (1u << 30) /* that much of the physical memory stands at KERNBASE */

/* sys/sys/linker.h */
#define MODINFO_END 0x0000
#define MODINFO_NAME 0x0001
#define MODINFO_TYPE 0x0002
#define MODINFO_ADDR 0x0003
#define MODINFO_SIZE 0x0004
#define MODINFO_ARGS 0x0006
#define MODINFO_METADATA 0x8000
#define MODINFOMD_ELFHDR 0x0002
#define MODINFOMD_SSYM 0x0003
#define MODINFOMD_ESYM 0x0004
#define MODINFOMD_ENVP 0x0006
#define MODINFOMD_HOWTO 0x0007
#define MODINFOMD_KERNEND 0x0008
#define MODINFOMD_FW_HANDLE 0x000c

/* sys/x86/include/metadata.h */
#define MODINFOMD_SMAP 0x1001
#define MODINFOMD_EFI_MAP 0x1004
#define MODINFOMD_EFI_FB 0x1005
#define MODINFOMD_MODULEP 0x1006

/* sys/amd64/include/pc/bios.h: an entry of MODINFOMD_SMAP */
struct bios_smap {
    uint64_t base;
    uint64_t length;
    uint32_t type; /* as ACPI's */
} __attribute__((packed));

/* sys/x86/include/metadata.h: the head of MODINFOMD_EFI_MAP; descriptors follow at the next multiple of 16 */
struct efi_map_header {
    uint64_t memory_size;
    uint64_t descriptor_size;
    uint32_t descriptor_version;
    uint32_t reserved[3];
};

/* The same: MODINFOMD_EFI_FB. All that is no colour is reserved. */
struct efi_fb {
    uint64_t address;
    uint64_t size;
    uint32_t height;
    uint32_t width;
    uint32_t stride; /* pixels from one line to the next */
    uint32_t red, green, blue, reserved; /* masks */
};

/* A file beside the kernel, and what its command line says of it: `-t TYPE NAME ARGUMENTS`. */
struct file {
    uint64_t address;
    uint64_t size;
    const char *name;
    const char *type;
    const char *arguments; /* may be empty */
    uint32_t name_size;    /* without a NUL, as the next */
    uint32_t type_size;
};

#define MAX_FILES 64

void __attribute__((noreturn)) die(const char *reason);

/* environment.c: the kernel's environment, and what of the command line are flags. */
struct environment {
    const char *start; /* variables, each with its NUL, then another NUL */
    uint32_t howto;    /* RB_* of sys/sys/reboot.h */
};
struct environment build_environment(const struct bb_handover *record);

/* modules.c: moves the modules where the kernel reaches them, and returns the end of all that it is to keep. */
uint32_t place_files(const struct bb_handover *record, struct file *files);

/* metadata.c: modulep. */
uint32_t build_metadata(const struct bb_handover *record, const struct file *files, struct environment environment,
                        uint32_t kernend);

static inline int same(const char *a, uint32_t size, const char *b)
{
    for (; size && *b; size--, a++, b++)
        if (*a != *b)
            return 0;
    return !size && !*b;
}

#endif
