/* SPDX-License-Identifier: 0BSD */
/*
 * The bootbuild handover: what a kernel finds at its shared startup path, whoever started it.
 *
 *   64-bit:  void startup_64(uint32_t boot_type, const struct bb_handover *record);
 *   32-bit:  void startup_32(uint32_t boot_type, const struct bb_handover *record);
 *
 * Version 1, little endian, fixed offsets. What is absent is 0. Machine state, ownership of memory
 * and the meaning of every field: docs/handover.md. Needs C11 or C++11 and <stdint.h>, nothing else.
 */
#ifndef BOOTBUILD_HANDOVER_H
#define BOOTBUILD_HANDOVER_H

#define BB_HANDOVER_MAGIC 0x4f484242 /* "BBHO" */
#define BB_HANDOVER_VERSION 1

/* Type of the setup_data node that holds the record of a Linux guest; bit 31 (SETUP_INDIRECT) is clear. */
#define BB_SETUP_DATA_TYPE 0x4f484242

/* Boot type: how the kernel was entered. From 0x10000 on: u16 vendor, u16 type. */
#define BB_BOOT_PVH 1
#define BB_BOOT_XEN_PV 2
#define BB_BOOT_EFI 3
#define BB_BOOT_MULTIBOOT1 4
#define BB_BOOT_MULTIBOOT2 5
#define BB_BOOT_LINUX_16 6
#define BB_BOOT_LINUX_32 7
#define BB_BOOT_LINUX_64 8

/* Hypervisor type: what is underneath. */
#define BB_HYPERVISOR_NONE 0
#define BB_HYPERVISOR_XEN 1
#define BB_HYPERVISOR_KVM 2
#define BB_HYPERVISOR_TCG 3
#define BB_HYPERVISOR_HYPER_V 4
#define BB_HYPERVISOR_VMWARE 5
#define BB_HYPERVISOR_BHYVE 6
#define BB_HYPERVISOR_UNKNOWN 0xffff

/* Flags of the record. */
#define BB_FLAG_BOOT_SERVICES 1 /* EFI boot services are alive */
#define BB_FLAG_PRIVILEGED 2    /* the hypervisor's initial domain */
#define BB_FLAG_DATA_COPIED 4   /* `data` is a copy: the original lay in the kernel's own .bss */
#define BB_FLAG_SECURE_BOOT 8   /* UEFI's Secure Boot is on: what is executed has been checked */

/* Types of memory: ACPI 6.5, table 15.4 (address range types). */
#define BB_MEMORY_RAM 1
#define BB_MEMORY_RESERVED 2
#define BB_MEMORY_ACPI 3
#define BB_MEMORY_NVS 4
#define BB_MEMORY_UNUSABLE 5
#define BB_MEMORY_DISABLED 6
#define BB_MEMORY_PERSISTENT 7

/* Operations of the post stub. What it does not know it answers with BB_POST_ENOSYS. */
#define BB_POST_QUERY 0         /* arg unused: version << 32 | bitmap of the operations it knows */
#define BB_POST_CONSOLE_WRITE 1 /* arg: struct bb_post_text; the number of bytes written */
#define BB_POST_SHUTDOWN 2      /* arg: uint32_t reason, or NULL for BB_SHUTDOWN_POWEROFF; no return */
#define BB_POST_TRAPS 3         /* arg: struct bb_post_traps; 0, or what the hypervisor answers */
#define BB_POST_VIRTUAL_MAP 4   /* arg: struct bb_post_virtual_map; 0, or the EFI_STATUS */
#define BB_POST_VERSION 1

#define BB_SHUTDOWN_POWEROFF 0
#define BB_SHUTDOWN_CRASH 1

#ifndef __ASSEMBLER__

#include <stdint.h>

#define BB_POST_ENOSYS ((uint64_t)-38)
#define BB_POST_EINVAL ((uint64_t)-22)

/* One range of the memory map, sorted by address, types as the environment gave them. */
struct bb_memory {
    uint64_t address; /* physical */
    uint64_t size;    /* bytes, never 0 */
    uint32_t type;    /* BB_MEMORY_* */
    uint32_t reserved;
};

/* One file that the environment loaded beside the kernel. */
struct bb_module {
    uint64_t address;
    uint64_t size;    /* bytes */
    uint64_t cmdline; /* NUL-terminated; 0 if there is none */
    uint64_t reserved;
};

struct bb_framebuffer {
    uint64_t address;
    uint64_t size; /* bytes */
    uint32_t width;
    uint32_t height;
    uint32_t pitch; /* bytes from one line to the next */
    uint32_t bits_per_pixel;
    uint8_t red_position, red_size;
    uint8_t green_position, green_size;
    uint8_t blue_position, blue_size;
    uint16_t reserved;
};

struct bb_handover {
    uint32_t magic;            /* BB_HANDOVER_MAGIC */
    uint32_t version;          /* BB_HANDOVER_VERSION, or later: fields are only ever added */
    uint32_t size;             /* bytes of this record: a later field is there if it lies inside */
    uint32_t checksum;         /* makes the sum of all `size / 4` words 0 */
    uint32_t boot_type;        /* BB_BOOT_*, as in the first argument */
    uint32_t hypervisor_type;  /* BB_HYPERVISOR_* */
    uint32_t hypervisor_leaf;  /* its first CPUID leaf, 0x40000000 …, 0 if there is none */
    uint32_t flags;            /* BB_FLAG_* */
    uint64_t data;             /* the environment's own structure: hvm_start_info, boot_params … */
    uint64_t cmdline;          /* NUL-terminated; 0 if none was given */
    uint64_t modules;          /* struct bb_module [module_count] */
    uint64_t memmap;           /* struct bb_memory [memmap_count] */
    uint32_t module_count;
    uint32_t memmap_count;
    uint64_t env_memmap;       /* the environment's own map, unchanged; 0 if there is none in memory */
    uint64_t env_memmap_size;  /* bytes */
    uint64_t rsdp;             /* ACPI root pointer */
    uint64_t efi_system_table;
    uint64_t efi_memmap;       /* EFI_MEMORY_DESCRIPTOR [] */
    uint64_t efi_memmap_size;  /* bytes */
    uint32_t efi_memmap_descriptor_size;
    uint32_t efi_memmap_descriptor_version;
    uint64_t framebuffer;      /* struct bb_framebuffer */
    uint64_t load_offset;      /* physical address of the kernel less the one it was linked at */
    uint64_t stub_base;        /* physical range of stubs, record, copies: the kernel keeps it … */
    uint64_t stub_size;        /* … until it needs neither record nor post stub, */
    uint64_t post_stub;        /* bb_post_stub *, of the startup path's width */
};

/* Head of every node in the list boot_params.hdr.setup_data (Documentation/arch/x86/boot.rst). */
struct bb_setup_header {
    uint64_t next; /* physical; 0 in the last node */
    uint32_t type;
    uint32_t len;  /* bytes that follow */
};

/* What a Linux guest finds in that list. Absent in its record: cmdline, modules, memmap, framebuffer, post_stub. */
struct bb_setup_data {
    struct bb_setup_header header; /* type BB_SETUP_DATA_TYPE */
    struct bb_handover record;
};

/* Argument of BB_POST_CONSOLE_WRITE. */
struct bb_post_text {
    uint64_t address;
    uint64_t size; /* bytes */
};

/*
 * Argument of BB_POST_TRAPS, for boot types under which exceptions go through a hypervisor: Xen PV. 0 leaves what
 * there is.
 */
struct bb_post_traps {
    uint64_t table;       /* the environment's own: struct trap_info[], up to one without an address */
    uint64_t event;       /* handlers in the kernel: of events, … */
    uint64_t failsafe;    /* … of an iret that failed, … */
    uint64_t system_call; /* … and of SYSCALL in user mode */
};

/* Argument of BB_POST_VIRTUAL_MAP: what SetVirtualAddressMap takes (UEFI 2.10, 8.4). */
struct bb_post_virtual_map {
    uint64_t address; /* EFI_MEMORY_DESCRIPTOR [], those of the runtime services with their virtual addresses */
    uint64_t size;    /* bytes */
    uint64_t descriptor_size;
    uint32_t descriptor_version;
    uint32_t reserved;
};

/* A plain C function: System V ABI of the startup path's width (i386 cdecl, x86-64). */
typedef uint64_t bb_post_stub(const struct bb_handover *record, uint32_t operation, void *argument);

#ifdef __cplusplus
#define BB_AT(type, field, at) static_assert(__builtin_offsetof(type, field) == at, #field)
#define BB_SIZE(type, bytes) static_assert(sizeof(type) == bytes, #type)
#else
#define BB_AT(type, field, at) _Static_assert(__builtin_offsetof(type, field) == at, #field)
#define BB_SIZE(type, bytes) _Static_assert(sizeof(type) == bytes, #type)
#endif

BB_SIZE(struct bb_memory, 24);
BB_AT(struct bb_memory, type, 16);
BB_SIZE(struct bb_module, 32);
BB_AT(struct bb_module, cmdline, 16);
BB_SIZE(struct bb_framebuffer, 40);
BB_AT(struct bb_framebuffer, red_position, 32);
BB_SIZE(struct bb_post_text, 16);
BB_SIZE(struct bb_post_traps, 32);
BB_SIZE(struct bb_post_virtual_map, 32);
BB_AT(struct bb_handover, magic, 0x00);
BB_AT(struct bb_handover, version, 0x04);
BB_AT(struct bb_handover, size, 0x08);
BB_AT(struct bb_handover, checksum, 0x0c);
BB_AT(struct bb_handover, boot_type, 0x10);
BB_AT(struct bb_handover, hypervisor_type, 0x14);
BB_AT(struct bb_handover, hypervisor_leaf, 0x18);
BB_AT(struct bb_handover, flags, 0x1c);
BB_AT(struct bb_handover, data, 0x20);
BB_AT(struct bb_handover, cmdline, 0x28);
BB_AT(struct bb_handover, modules, 0x30);
BB_AT(struct bb_handover, memmap, 0x38);
BB_AT(struct bb_handover, module_count, 0x40);
BB_AT(struct bb_handover, memmap_count, 0x44);
BB_AT(struct bb_handover, env_memmap, 0x48);
BB_AT(struct bb_handover, env_memmap_size, 0x50);
BB_AT(struct bb_handover, rsdp, 0x58);
BB_AT(struct bb_handover, efi_system_table, 0x60);
BB_AT(struct bb_handover, efi_memmap, 0x68);
BB_AT(struct bb_handover, efi_memmap_size, 0x70);
BB_AT(struct bb_handover, efi_memmap_descriptor_size, 0x78);
BB_AT(struct bb_handover, efi_memmap_descriptor_version, 0x7c);
BB_AT(struct bb_handover, framebuffer, 0x80);
BB_AT(struct bb_handover, load_offset, 0x88);
BB_AT(struct bb_handover, stub_base, 0x90);
BB_AT(struct bb_handover, stub_size, 0x98);
BB_AT(struct bb_handover, post_stub, 0xa0);
BB_SIZE(struct bb_handover, 0xa8);
BB_SIZE(struct bb_setup_header, 16);
BB_AT(struct bb_setup_data, record, 16);

#undef BB_AT
#undef BB_SIZE

#endif /* __ASSEMBLER__ */
#endif /* BOOTBUILD_HANDOVER_H */
