/* SPDX-License-Identifier: 0BSD */
/*
 * Where a PVH environment enters (XEN_ELFNOTE_PHYS32_ENTRY).
 *
 * Promised (docs/misc/pvh.pandoc): EBX = hvm_start_info, CR0.PE, CR4 = 0, flat CS, DS, ES, SS, and VM, IF, TF
 * clear. Not promised: ESP, every other register and flag, selectors, FS, GS, GDTR, IDTR. So: our own
 * table before any segment is loaded, our own stack before anything is pushed.
 */
#include <bootbuild/flat32.h>

#define STACK_SIZE 0x2000

	.text
	.code32
	.globl	bb_pvh_entry
bb_pvh_entry:
	cli
	cld
	bb_flat_32
	lidt	no_idt

	/* A loader may have left anything there: linux-loader does not zero what is not in the file. */
	mov	bb_params + BB_PARAMS_BSS_BASE, %edi
	mov	bb_params + BB_PARAMS_BSS_SIZE, %ecx
	shr	$2, %ecx
	xor	%eax, %eax
	rep stosl

	mov	$(stack + STACK_SIZE), %esp
	pushl	$0
	popfl
	subl	$12, %esp		/* the i386 psABI wants a multiple of 16 before the call */
	pushl	%ebx
	call	bb_pvh_main		/* EAX = the record */
	mov	%eax, %esi
	mov	$BB_BOOT_PVH, %edi
	jmp	bb_next

	bb_flat_table_32

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
