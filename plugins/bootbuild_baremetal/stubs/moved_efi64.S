/* SPDX-License-Identifier: 0BSD */
/* The same before the 64-bit front, beside boot services: the image lies where they map memory one to one. */
#include "moved.h"

	.text
	.code64
	.globl	bb_multiboot_moved_efi64
bb_multiboot_moved_efi64:
	mov	%eax, %r8d
	lea	1f(%rip), %rdx
1:	sub	$1b, %rdx		/* how far: below 2 GiB, up or down */
	jz	4f

	lea	bb_fixups(%rip), %rsi
	mov	FIXUPS_32(%rsi), %ecx
	mov	FIXUPS_64(%rsi), %edi
	add	$FIXUPS, %rsi
2:	lodsl
	add	%edx, (%rax, %rdx)
	loop	2b
	mov	%edi, %ecx
3:	lodsl
	add	%rdx, (%rax, %rdx)
	loop	3b
4:	mov	%r8d, %eax
	jmp	bb_next
