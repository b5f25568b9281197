/* SPDX-License-Identifier: 0BSD */
/*
 * The back for Linux at width 32: startup_32 as Documentation/arch/x86/boot.rst, "32-bit Boot Protocol", has it: paging
 * off, ESI = boot_params, EBP = EDI = EBX = 0, CS = __BOOT_CS, DS = ES = SS = __BOOT_DS, IF = 0. All else is 0.
 */
#include <bootbuild/waist.h>

#define STACK_SIZE 0x1000

	.text
	.code32
	.globl	bb_linux_32
bb_linux_32:
	mov	$(stack + STACK_SIZE - 12), %esp	/* a multiple of 16 before the call (i386 psABI) */
	pushl	%esi
	call	bb_boot_params		/* EAX = boot_params */
	mov	%eax, %esi
	lgdt	gdtr
	ljmp	$BB_CODE, $1f
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	pushl	bb_params + BB_PARAMS_STARTUP
	bb_zero	eax, ebx, ecx, edx, edi, ebp
	pushl	$0
	popfl
	ret

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00cf9b000000ffff	/* BB_CODE: 32-bit, flat, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.long	gdt

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
