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
	bb_zero	eax, ebx, ecx, edx, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	cld
	ret

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
