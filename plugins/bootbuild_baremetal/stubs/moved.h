/* SPDX-License-Identifier: 0BSD */
/* The image where its loader has put it: the linker's table of what holds an address, bb_fixups. Assembly only. */
#ifndef MOVED_H
#define MOVED_H

#define MAGIC 0x36d76289 /* MULTIBOOT2_BOOTLOADER_MAGIC */

/*
 * Offsets in bb_fixups: two counts, then the linked address of each word, of those of 4 bytes first. Neither count is 0:
 * the stub that works it off has a word of 4 bytes itself, and bb_params has words of 8.
 */
#define FIXUPS_32 0
#define FIXUPS_64 4
#define FIXUPS 8

#endif
