/* SPDX-License-Identifier: 0BSD */
/* The structure that a PVH environment hands over: xen/include/public/arch-x86/hvm/start_info.h. */
#ifndef PVH_START_INFO_H
#define PVH_START_INFO_H

#include <stdint.h>

#define START_MAGIC 0x336ec578
/* xen/include/public/xen.h */
#define SIF_PRIVILEGED 1
#define SIF_INITDOMAIN 2

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t nr_modules;
    uint64_t modlist_paddr;
    uint64_t cmdline_paddr;
    uint64_t rsdp_paddr;
    /* From version 1 on; a version 0 structure ends here. */
    uint64_t memmap_paddr;
    uint32_t memmap_entries;
    uint32_t reserved;
};

#define START_INFO_SIZE_0 40
_Static_assert(__builtin_offsetof(struct start_info, memmap_paddr) == START_INFO_SIZE_0, "version 0");
_Static_assert(sizeof(struct start_info) == 56, "version 1");

struct start_module {
    uint64_t paddr;
    uint64_t size;
    uint64_t cmdline_paddr;
    uint64_t reserved;
};

struct start_memory {
    uint64_t addr;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

#endif
