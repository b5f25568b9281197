/* SPDX-License-Identifier: 0BSD */
/*
 * The back for Linux at width 64: startup_64 at its physical address, as Documentation/arch/x86/boot.rst, "64-bit Boot
 * Protocol", has it: RSI = boot_params, CS = __BOOT_CS, DS = ES = SS = __BOOT_DS, IF = 0, identity map. All else is 0.
 */
#include <bootbuild/waist.h>

#define STACK_SIZE 0x1000

	.text
	.code64
	.globl	bb_linux_64
bb_linux_64:
	mov	$(stack + STACK_SIZE), %esp
	mov	%rsi, %rdi
	call	bb_boot_params		/* RAX = boot_params */
	mov	%rax, %rsi
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
	pushq	bb_params + BB_PARAMS_STARTUP(%rip)
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
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
	ret

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff	/* BB_CODE: 64-bit, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.quad	gdt

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
