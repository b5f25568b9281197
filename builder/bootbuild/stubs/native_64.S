/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a native guest at width 64: long mode with our own GDT and an empty IDT, IF = DF = 0,
 * 16 KiB of stack with [RSP] = 0 and RSP = 8 modulo 16, RDI = boot type, RSI = record, all else 0.
 */
#include <bootbuild/waist.h>

	.text
	.code64
	.globl	bb_native_64
bb_native_64:
	mov	$(stack + BB_STACK_SIZE), %esp
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
	lidt	no_idt(%rip)
	pushq	$0
	pushq	bb_params + BB_PARAMS_STARTUP(%rip)
	bb_zero	eax, ebx, ecx, edx, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	pushq	$0
	popfq
	ret

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff	/* BB_CODE: 64-bit, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.quad	gdt
	.balign	4
no_idt:	.word	0
	.quad	0

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
