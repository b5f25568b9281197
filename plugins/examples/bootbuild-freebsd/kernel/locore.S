/* SPDX-License-Identifier: 0BSD */
/* btext, as FreeBSD's own has it: modulep and kernend from the loader's stack, then one of ours. */
#define PSL_KERNEL 2

	.section .text.start, "ax"
	.globl	btext
btext:
	pushq	$PSL_KERNEL
	popfq
	mov	%rsp, %rbp
	mov	$bootstack, %rsp
	mov	4(%rbp), %edi
	mov	8(%rbp), %esi
	xor	%ebp, %ebp
	call	hammer_time
	call	mi_startup
1:	cli
	hlt
	jmp	1b

	.bss
	.balign	16
	.skip	0x4000
bootstack:
