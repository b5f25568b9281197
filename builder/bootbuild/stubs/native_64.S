/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a native guest at width 64: long mode with our own GDT and an empty IDT, IF = DF = 0,
 * 16 KiB of stack with [RSP] = 0 and RSP = 8 modulo 16, RDI = boot type, RSI = record, all else 0.
 */
#include <bootbuild/flat64.h>

	.text
	.code64
	.globl	bb_native_64
bb_native_64:
	mov	$(stack + BB_STACK_SIZE), %esp
	bb_flat_64
	lidt	no_idt(%rip)
	pushq	$0
	pushq	bb_params + BB_PARAMS_STARTUP(%rip)
	bb_zero	eax, ebx, ecx, edx, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	pushq	$0
	popfq
	ret

	bb_flat_table_64

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
