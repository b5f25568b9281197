/* SPDX-License-Identifier: 0BSD */
/* Flat segments by a table of our own, for fronts entered in 32-bit code and backs that enter such. Assembly only. */
#ifndef BOOTBUILD_FLAT32_H
#define BOOTBUILD_FLAT32_H

#include <bootbuild/waist.h>

#define BB_FLAT_CODE_32 0x00cf9b000000ffff /* 32-bit, flat, read-execute, accessed */
#define BB_FLAT_DATA_32 0x00cf93000000ffff /* flat, read-write, accessed */

/* Loads every segment register by the table that `gdtr` tells of. EAX is lost. */
.macro bb_flat_32
	lgdt	gdtr
	ljmp	$BB_CODE, $1f
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
.endm

/* A table of just these segments, and what LGDT and LIDT are told. */
.macro bb_flat_table_32
	.balign	8
gdt:	.quad	0, 0
	.quad	BB_FLAT_CODE_32
	.quad	BB_FLAT_DATA_32
gdtr:	.word	. - gdt - 1
	.long	gdt
	.balign	4
no_idt:	.word	0
	.long	0
.endm

#endif
