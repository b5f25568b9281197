/* SPDX-License-Identifier: 0BSD */
/* An image that lies elsewhere than it is linked: the linker's table of what holds an address, bb_fixups. Assembly only. */
#ifndef BOOTBUILD_MOVED_H
#define BOOTBUILD_MOVED_H

/*
 * Offsets in bb_fixups: two counts, then the linked address of each word, of those of 4 bytes first. Neither count is 0:
 * the stub that works it off has a word of 4 bytes itself, and bb_params has words of 8.
 */
#define BB_FIXUPS_32 0
#define BB_FIXUPS_64 4
#define BB_FIXUPS 8

/*
 * In 64-bit code, where memory is mapped one to one: adds to every word that holds an address how far the image lies from
 * where it is linked, below 2 GiB. Once. RBX, RBP, RSP and R8 to R15 are kept; there need be no stack.
 */
	.macro	bb_mend
	lea	1f(%rip), %rdx
1:	sub	$1b, %rdx
	jz	4f

	lea	bb_fixups(%rip), %rsi
	mov	BB_FIXUPS_32(%rsi), %ecx
	mov	BB_FIXUPS_64(%rsi), %edi
	add	$BB_FIXUPS, %rsi
2:	lodsl
	add	%edx, (%rax, %rdx)
	loop	2b
	mov	%edi, %ecx
3:	lodsl
	add	%rdx, (%rax, %rdx)
	loop	3b
4:
	.endm

#endif
