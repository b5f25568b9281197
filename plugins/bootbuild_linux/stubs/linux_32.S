/* SPDX-License-Identifier: 0BSD */
/*
 * The back for Linux at width 32: startup_32 as Documentation/arch/x86/boot.rst, "32-bit Boot Protocol", has it: paging
 * off, ESI = boot_params, EBP = EDI = EBX = 0, CS = __BOOT_CS, DS = ES = SS = __BOOT_DS, IF = 0. All else is 0.
 */
#include <bootbuild/flat32.h>

#define STACK_SIZE 0x1000

	.text
	.code32
	.globl	bb_linux_32
bb_linux_32:
	mov	$(stack + STACK_SIZE - 12), %esp	/* a multiple of 16 before the call (i386 psABI) */
	pushl	%esi
	call	bb_boot_params		/* EAX = boot_params */
	mov	%eax, %esi
	bb_flat_32
	pushl	bb_params + BB_PARAMS_STARTUP
	bb_zero	eax, ebx, ecx, edx, edi, ebp
	pushl	$0
	popfl
	ret

	bb_flat_table_32

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
