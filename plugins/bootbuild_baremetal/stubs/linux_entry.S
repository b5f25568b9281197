/* SPDX-License-Identifier: 0BSD */
/*
 * Where the Linux boot protocol leads to, in the kernel's own memory: from the head of a bzImage (linux_head.S) in flat 32-bit
 * mode with EDI = boot type, EDX:ESI = boot_params; or from a monitor that starts ELF files by the 64-bit protocol, in
 * long mode with RSI = boot_params. Promised there is an identity map of this, and IF = 0; no stack, no table.
 */
#include "flat.h"

#define STACK_SIZE 0x2000
#define RECORD_BOOT_TYPE 0x10

	.text
	.code64
	.globl	bb_linux_entry_64
bb_linux_entry_64:
	cli
	mov	%rsi, %rbp
	shr	$32, %rbp
	mov	$gdtr_64, %eax
	lgdt	(%rax)
	mov	$far, %eax
	ljmp	*(%rax)
	.code32
flat:	plain_control_registers
	clear_efer
	mov	%ebp, %edx
	mov	$BB_BOOT_LINUX_64, %edi

	.globl	bb_linux_entry
bb_linux_entry:
	cli
	cld
	mov	%esi, %ebx
	mov	%edx, %ebp
	mov	%edi, %edx
	bb_flat_32
	lidt	no_idt
	plain_control_registers
	clear_nobits
	mov	$(stack + STACK_SIZE), %esp
	pushl	$0
	popfl
	subl	$4, %esp		/* the i386 psABI wants a multiple of 16 before the call */
	pushl	%ebp
	pushl	%ebx
	pushl	%edx
	clear_efer_if_any		/* a 32-bit loader may have left LME set */
	call	bb_linux_main		/* EAX = the record */
	mov	%eax, %esi
	mov	RECORD_BOOT_TYPE(%eax), %edi
	jmp	bb_next

	bb_flat_table_32
	.balign	4
gdtr_64:
	.word	4 * 8 - 1
	.long	gdt, 0
	.balign	4
far:	.long	flat
	.word	BB_CODE

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
