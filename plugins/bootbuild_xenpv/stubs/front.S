/* SPDX-License-Identifier: 0BSD */
/*
 * Where Xen enters a PV guest (XEN_ELFNOTE_ENTRY): ring 3, long mode, events masked.
 *
 * Promised (xen/include/public/xen.h, arch-x86/xen-x86_64.h): RSI = start_info, RSP = the end of a boot stack
 * of one page, flat CS and SS, all else 0; .bss zero, the bootstrap region mapped. Our own stack first:
 * below the boot stack lie the page tables.
 */
#include <bootbuild/waist.h>

#define STACK_SIZE 0x2000

	.text
	.code64
	.globl	bb_pv_entry
bb_pv_entry:
	cld
	lea	stack + STACK_SIZE(%rip), %rsp
	mov	%rsi, %rdi
	call	bb_pv_main		/* RAX = the record */
	mov	%rax, %rsi
	mov	$BB_BOOT_XEN_PV, %edi
	jmp	bb_next

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
