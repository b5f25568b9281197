/* SPDX-License-Identifier: 0BSD */
/*
 * Where toymon enters: ESI = toymon_info, flat segments, IF clear, and our NOBITS are zero. No stack, no tables
 * and no flag beyond that are promised, so all of them are ours before anything uses them.
 */
#include <bootbuild/waist.h>

#include "toymon.h"

	.text
	.code32
	.globl	toymon_entry
toymon_entry:
	lgdt	gdtr
	ljmp	$BB_CODE, $1f
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	lidt	no_idt
	mov	$(stack + STACK_SIZE), %esp
	pushl	$0
	popfl
	subl	$12, %esp		/* the i386 psABI wants a multiple of 16 before the call */
	pushl	%esi
	call	toymon_main		/* EAX = the record */
	mov	%eax, %esi
	mov	$TOYMON_BOOT, %edi
	jmp	bb_next

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00cf9b000000ffff	/* BB_CODE: 32-bit, flat, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.long	gdt
	.balign	4
no_idt:	.word	0
	.long	0

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
