/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a native guest at width 32: flat protected mode with our own GDT and an empty IDT, IF = DF = 0,
 * 16 KiB of stack with [ESP] = 0 and the two arguments above it, EDI and ESI as well, all else 0.
 */
#include <bootbuild/flat32.h>

	.text
	.code32
	.globl	bb_native_32
bb_native_32:
	bb_flat_32
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

	bb_flat_table_32

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
