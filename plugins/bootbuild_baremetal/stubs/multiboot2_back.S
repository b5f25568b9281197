/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a kernel that speaks Multiboot2, as 3.3 of its specification has the machine (I386): EAX = magic, EBX =
 * information, flat 32-bit segments, CR0.PE without PG, VM = IF = 0, A20 open (nobody who starts us has closed it).
 * Left open there, and given all the same: ESP, the tables, flags and registers of 0.
 */
#include <bootbuild/flat32.h>

	.text
	.code32
	.globl	bb_multiboot2_back
bb_multiboot2_back:
	mov	$(stack + BB_STACK_SIZE - 12), %esp	/* a multiple of 16 before the call (i386 psABI) */
	pushl	%esi
	call	bb_multiboot2_information	/* EAX = what it made */
	mov	%eax, %ebx
	bb_flat_32
	lidt	no_idt
	pushl	bb_params + BB_PARAMS_STARTUP
	mov	$0x36d76289, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	pushl	$0
	popfl
	ret

	bb_flat_table_32

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
