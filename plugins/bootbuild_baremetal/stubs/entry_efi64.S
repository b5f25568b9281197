/* SPDX-License-Identifier: 0BSD */
/*
 * Where a Multiboot2 loader enters on 64-bit UEFI whose boot services are alive (tags 7 and 9 of the header).
 *
 * Promised (Multiboot2 2.0 §3.5): RAX = magic, RBX = information, all else as UEFI 2.3.4 has it: long mode at CPL 0, what
 * is in memory one to one, DF clear, IF set, a stack of 128 KiB. Tables, page tables, stack and IF stay the firmware's.
 * RSP is aligned here: UEFI has it 8 above a multiple of 16, as after a call, and GRUB at one.
 */
#include <bootbuild/waist.h>

#define RECORD_BOOT_TYPE 0x10

	.text
	.code64
	.globl	bb_multiboot_entry_efi64
bb_multiboot_entry_efi64:
	and	$-16, %rsp
	mov	%eax, %edx
	xor	%eax, %eax
	mov	bb_params + BB_PARAMS_BSS_BASE(%rip), %rdi
	mov	bb_params + BB_PARAMS_BSS_SIZE(%rip), %rcx
	shr	$2, %rcx
	rep stosl

	mov	%edx, %edi
	mov	%rbx, %rsi
	call	bb_multiboot_main	/* RAX = the record */
	mov	%rax, %rsi
	mov	RECORD_BOOT_TYPE(%rax), %edi
	jmp	bb_next
