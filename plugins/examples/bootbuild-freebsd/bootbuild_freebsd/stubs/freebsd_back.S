/* SPDX-License-Identifier: 0BSD */
/*
 * The back for FreeBSD: btext at its linked address, as sys/amd64/amd64/locore.S has it. On the stack are
 * three 32-bit words: a return address that nobody uses, modulep, kernend. All else is 0.
 */
#include <bootbuild/flat64.h>

	.text
	.code64
	.globl	freebsd_back
freebsd_back:
	mov	$(stack + BB_STACK_SIZE - 16), %esp
	mov	%rsi, %rdi
	call	freebsd_prepare		/* RAX = the top page table; modulep and kernend are filled in */
	mov	%rax, %cr3
	bb_flat_64
	lidt	no_idt(%rip)
	movl	$0, (%rsp)
	mov	freebsd_modulep(%rip), %eax
	mov	%eax, 4(%rsp)
	mov	freebsd_kernend(%rip), %eax
	mov	%eax, 8(%rsp)
	bb_zero	eax, ebx, ecx, edx, esi, edi, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	pushq	$0
	popfq
	jmp	*bb_params + BB_PARAMS_STARTUP(%rip)

	bb_flat_table_64

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
