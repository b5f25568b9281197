/* SPDX-License-Identifier: 0BSD */
/*
 * Where a Multiboot loader enters, of either version.
 *
 * Promised (Multiboot 0.6.96 §3.2, Multiboot2 2.0 §3.3): EAX = magic, EBX = information, flat CS, DS, ES, FS, GS,
 * SS, CR0.PE, no paging, VM and IF clear, A20 on. Not promised: ESP, every other register and flag, the other bits of
 * CR0, CR4, EFER, GDTR, IDTR. So: our own table before any segment is loaded, our own stack before anything is pushed,
 * and the control registers as the waist has them: GRUB on UEFI leaves CR4 and EFER as the firmware had them.
 */
#include "flat.h"

#define STACK_SIZE 0x2000
#define RECORD_BOOT_TYPE 0x10

	.text
	.code32
	.globl	bb_multiboot_entry
bb_multiboot_entry:
	cli
	cld
	mov	%eax, %ebp
	bb_flat_32
	lidt	no_idt
	plain_control_registers
	clear_nobits

	mov	$(stack + STACK_SIZE), %esp
	pushl	$0
	popfl

	mov	%ebx, %esi
	clear_efer_if_any		/* firmware may have left LME set */
	subl	$8, %esp		/* the i386 psABI wants a multiple of 16 before the call */
	pushl	%esi
	pushl	%ebp
	call	bb_multiboot_main	/* EAX = the record */
	mov	%eax, %esi
	mov	RECORD_BOOT_TYPE(%eax), %edi
	jmp	bb_next

	bb_flat_table_32

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
