/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a native guest at width 32: flat protected mode with our own GDT and an empty IDT, IF = DF = 0,
 * 16 KiB of stack with [ESP] = 0 and the two arguments above it, EDI and ESI as well, all else 0.
 */
#include <bootbuild/waist.h>

	.text
	.code32
	.globl	bb_native_32
bb_native_32:
	lgdt	gdtr
	ljmp	$BB_CODE, $1f
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	mov	$(stack + BB_STACK_SIZE - 8), %esp	/* so that ESP + 4 is a multiple of 16 (i386 psABI) */
	lidt	no_idt
	pushl	%esi
	pushl	%edi
	pushl	$0
	pushl	bb_params + BB_PARAMS_STARTUP
	bb_zero	eax, ebx, ecx, edx, ebp
	pushl	$0
	popfl
	ret

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
stack:	.skip	BB_STACK_SIZE
