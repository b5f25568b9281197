/* SPDX-License-Identifier: 0BSD */
/*
 * Before a kernel's own PV entry: looks whether it was started as a PV guest, and leaves everything as Xen did.
 *
 * The boot stack is not touched: a kernel may take its page for zero.
 */
#include <bootbuild/waist.h>

#define STACK_SIZE 0x400

	.text
	.code64
	.globl	bb_pv_chain
bb_pv_chain:
	mov	%rsp, saved_rsp(%rip)
	lea	stack + STACK_SIZE(%rip), %rsp
	pushfq
	push	%rax
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	cld
	mov	%rsi, %rdi
	call	bb_pv_before
	/* The entry is known as it is loaded; it is called where Xen maps it, as far from here as it is loaded. */
	lea	bb_pv_chain(%rip), %rax
	movabs	$bb_pv_chain, %rcx
	sub	%rcx, %rax
	add	bb_params + BB_PARAMS_STARTUP(%rip), %rax
	mov	%rax, entry(%rip)
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%rax
	popfq
	mov	saved_rsp(%rip), %rsp
	jmp	*entry(%rip)

	.bss
	.balign	16
saved_rsp:
	.skip	8
entry:	.skip	8
stack:	.skip	STACK_SIZE
