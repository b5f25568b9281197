/* SPDX-License-Identifier: 0BSD */
/*
 * The back for FreeBSD: btext at its linked address, as sys/amd64/amd64/locore.S has it. On the stack are
 * three 32-bit words: a return address that nobody uses, modulep, kernend. All else is 0.
 */
#include <bootbuild/waist.h>

	.text
	.code64
	.globl	freebsd_back
freebsd_back:
	mov	$(stack + BB_STACK_SIZE - 16), %esp
	mov	%rsi, %rdi
	call	freebsd_prepare		/* RAX = the top page table; modulep and kernend are filled in */
	mov	%rax, %cr3
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
	movl	$0, (%rsp)
	mov	freebsd_modulep(%rip), %eax
	mov	%eax, 4(%rsp)
	mov	freebsd_kernend(%rip), %eax
	mov	%eax, 8(%rsp)
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	pushq	$0
	popfq
	jmp	*bb_params + BB_PARAMS_STARTUP(%rip)

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
