/* SPDX-License-Identifier: 0BSD */
/* What the parts of the PVH front share. */
#ifndef PVH_FRONT_H
#define PVH_FRONT_H

#include <bootbuild/waist.h>

#include "start_info.h"

#define MAX_MODULES 32
#define MAX_STRINGS 8192 /* bytes, of all command lines */

/* Says why on every console that may be there, and stops in the way that the environment reports. */
void die(const char *reason) __attribute__((noreturn));

/* A 32-bit pointer, or death: without paging nothing above 4 GiB can be reached. */
void *reach(uint64_t address, uint64_t size, const char *beyond);

/* Clears the kernel's .bss, after moving the modules that lie in it to free memory. */
void clear_payload(struct bb_handover *record);

#endif
