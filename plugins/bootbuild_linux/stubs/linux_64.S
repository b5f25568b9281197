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
	bb_zero	eax, ebx, ecx, edx, edi, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
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
