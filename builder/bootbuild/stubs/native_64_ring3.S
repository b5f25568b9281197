/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a native guest at width 64 in ring 3 (Xen PV): the hypervisor's tables stay, the code runs where
 * it is mapped. 16 KiB of stack with [RSP] = 0 and RSP = 8 modulo 16, RDI = boot type, RSI = record, all
 * else 0. IF is not ours to clear: events are masked elsewhere.
 */
#include <bootbuild/waist.h>

	.text
	.code64
	.globl	bb_native_64_ring3
bb_native_64_ring3:
	lea	stack + BB_STACK_SIZE(%rip), %rsp
	pushq	$0
	pushq	bb_params + BB_PARAMS_STARTUP(%rip)
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	cld
	ret

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
