/* SPDX-License-Identifier: 0BSD */
/* Flat segments by a table of our own, for backs that enter 64-bit code. Assembly only. */
#ifndef BOOTBUILD_FLAT64_H
#define BOOTBUILD_FLAT64_H

#include <bootbuild/waist.h>

/* Loads every segment register by the table that `gdtr` tells of. RAX is lost; the stack is used. */
.macro bb_flat_64
	lgdt	gdtr(%rip)
	pushq	$BB_CODE
	lea	1f(%rip), %rax
	pushq	%rax
	lretq
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
.endm

/* A table of just these segments, and what LGDT and LIDT are told. */
.macro bb_flat_table_64
	.balign	8
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff	/* BB_CODE: 64-bit, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.quad	gdt
	.balign	4
no_idt:	.word	0
	.quad	0
.endm

#endif
