/* SPDX-License-Identifier: 0BSD */
/* The toymon boot protocol, version 1 (README.md), as the stubs see it. */
#ifndef TOYMON_H
#define TOYMON_H

#define TOYMON_BOOT 0x70590001 /* bootbuild's boot type: vendor 0x7059, its type 1 */
#define TOYMON_MAGIC 0x4d594f54
#define TOYMON_POWER 0x501  /* I/O port: 0 power off, else crash */
#define TOYMON_CMDLINE 1024 /* bytes that a command line takes at the most, with its NUL */

#define STACK_SIZE 0x1000

#ifndef __ASSEMBLER__

#include <stdint.h>

struct toymon_info {
    uint32_t magic;
    uint32_t version;
    uint32_t memory; /* KiB, from 0 on */
    uint32_t cmdline;
    uint32_t module;
    uint32_t module_size;
};

#endif
#endif
