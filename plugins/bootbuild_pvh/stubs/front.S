/* SPDX-License-Identifier: 0BSD */
/*
 * Where a PVH environment enters (XEN_ELFNOTE_PHYS32_ENTRY).
 *
 * Promised (docs/misc/pvh.pandoc): EBX = hvm_start_info, CR0.PE, CR4 = 0, flat CS, DS, ES, SS, and VM, IF, TF
 * clear. Not promised: ESP, every other register and flag, selectors, FS, GS, GDTR, IDTR. So: our own
 * table before any segment is loaded, our own stack before anything is pushed.
 */
#include <bootbuild/waist.h>

#define STACK_SIZE 0x2000

	.text
	.code32
	.globl	bb_pvh_entry
bb_pvh_entry:
	cli
	cld
	lgdt	gdtr
	ljmp	$BB_CODE, $1f
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
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

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00cf9b000000ffff	/* BB_CODE: 32-bit, flat, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.long	gdt
	.balign	4
no_idt:	.word	0
	.long	0

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
