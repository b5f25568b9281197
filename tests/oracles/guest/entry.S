/* SPDX-License-Identifier: 0BSD */
/* A 32-bit entry that records every register before it changes one, then says all it was given (dump). */

#include "registers.h"

#ifdef MULTIBOOT
	.section .header, "a", @progbits
	.balign 8
multiboot2:
	.long 0xe85250d6, 0, multiboot2_end - multiboot2, -(0xe85250d6 + multiboot2_end - multiboot2)
	.word 0, 0			/* MULTIBOOT_HEADER_TAG_END */
	.long 8
multiboot2_end:
	.long 0x1badb002, 3, -(0x1badb002 + 3)	/* page-aligned modules, memory information */

	/* Of no segment: GRUB finds it a place by its alignment, between others of less. */
	.section .aside, "", @progbits
	.balign 512
	.ascii "aside"
#else
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* namesz, descsz, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long entry
#endif

	.section .entry, "ax", @progbits
	.code32
	.globl entry
entry:
	record_registers
	pushl registers + 4
	call dump
	end_run

	.bss
	.skip ROOM
