/* SPDX-License-Identifier: 0BSD */
/* The same before the 64-bit front, beside boot services: the image lies where they map memory one to one. */
#include <bootbuild/moved.h>

	.text
	.code64
	.globl	bb_multiboot_moved_efi64
bb_multiboot_moved_efi64:
	mov	%eax, %r8d
	bb_mend
	mov	%r8d, %eax
	jmp	bb_next
