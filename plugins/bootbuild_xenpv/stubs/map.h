/* SPDX-License-Identifier: 0BSD */
/* Mapping frames of the domain that its builder left unmapped. */
#ifndef XENPV_MAP_H
#define XENPV_MAP_H

#include "xen.h"

/*
 * Maps `size` bytes from a frame on where the bootstrap region would have them if it went on, writable. Takes
 * page tables from bb_pv_tables, which nobody can write to from then on. Null, or the reason why it cannot.
 */
const char *map_frames(const struct start_info *info, uint64_t frame, uint64_t size);

#endif
