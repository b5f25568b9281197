/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a native guest at width 64 where EFI boot services are alive: the firmware's GDT, IDT, page tables, stack and
 * IF stay. DF = 0, [RSP] = 0 and RSP = 8 modulo 16, RDI = boot type, RSI = record, all else 0.
 */
#include <bootbuild/waist.h>

	.text
	.code64
	.globl	bb_native_64_efi
bb_native_64_efi:
	and	$-16, %rsp
	push	%rdi
	push	%rsi
	call	bb_beside_firmware	/* RAX = the top table */
	pop	%rsi
	pop	%rdi
	mov	%rax, %cr3
	pushq	$0
	pushq	bb_params + BB_PARAMS_STARTUP(%rip)
	bb_zero	eax, ebx, ecx, edx, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	cld
	ret
