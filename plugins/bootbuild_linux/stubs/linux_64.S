/* SPDX-License-Identifier: 0BSD */
/*
 * The back for Linux at width 64: startup_64 at its physical address, as Documentation/arch/x86/boot.rst, "64-bit Boot
 * Protocol", has it: RSI = boot_params, CS = __BOOT_CS, DS = ES = SS = __BOOT_DS, IF = 0, identity map. All else is 0.
 */
#include <bootbuild/flat64.h>

#define STACK_SIZE 0x1000

	.text
	.code64
	.globl	bb_linux_64
bb_linux_64:
	mov	$(stack + STACK_SIZE), %esp
	mov	%rsi, %rdi
	call	bb_boot_params		/* RAX = boot_params */
	mov	%rax, %rsi
	bb_flat_64
	pushq	bb_params + BB_PARAMS_STARTUP(%rip)
	bb_zero	eax, ebx, ecx, edx, edi, ebp, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	pushq	$0
	popfq
	ret

	bb_flat_table_64

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
