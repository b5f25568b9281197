/* SPDX-License-Identifier: 0BSD */
/*
 * Before the 32-bit front of an image that its loader may move: adds to every word that holds an address how far it lies
 * from where it is linked. Nothing here may have an address of its own before that is done.
 *
 * Whoever wants to know where it is needs a stack, and Multiboot2 promises none (3.3). What there is for sure is the
 * information structure, whose second word is reserved: it is the stack for one call, and then what it was.
 */
#include <bootbuild/moved.h>

#define MAGIC 0x36d76289 /* MULTIBOOT2_BOOTLOADER_MAGIC */

	.text
	.code32
	.globl	bb_multiboot_moved
bb_multiboot_moved:
	cli
	cld
	cmp	$MAGIC, %eax
	jne	4f			/* the front says so, where it is linked */
	mov	4(%ebx), %edi
	lea	8(%ebx), %esp
	call	1f
1:	pop	%edx
	mov	%edi, 4(%ebx)
	lea	(bb_fixups - 1b)(%edx), %esi
	sub	$1b, %edx		/* how far: below 2 GiB, up or down */
	jz	4f

	mov	BB_FIXUPS_32(%esi), %ecx
	mov	BB_FIXUPS_64(%esi), %ebp
	mov	%edx, %edi
	sar	$31, %edi
	add	$BB_FIXUPS, %esi
2:	lodsl
	add	%edx, (%eax, %edx)
	loop	2b
	mov	%ebp, %ecx
3:	lodsl
	add	%edx, (%eax, %edx)
	adc	%edi, 4(%eax, %edx)
	loop	3b
	mov	$MAGIC, %eax
4:	jmp	bb_next
