/* SPDX-License-Identifier: 0BSD */
/* The shared startup path: saves what it was entered with, so that the C code can hold it to the ABI. */

	.section .text.start, "ax"
#ifdef __x86_64__
	.code64
	.globl	startup_64
startup_64:
	mov	%rsp, %rdx
	pushfq
	popq	%rcx
	call	hello			/* (boot type, record, stack pointer, flags) */
#else
	.code32
	.globl	startup_32
startup_32:
	mov	%esp, %eax
	pushfl
	popl	%edx
	pushl	%edx
	pushl	%eax
	pushl	8(%eax)
	pushl	4(%eax)
	call	hello
#endif
1:	cli
	hlt
	jmp	1b
