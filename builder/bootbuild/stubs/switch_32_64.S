/* SPDX-License-Identifier: 0BSD */
/*
 * The switch from the 32-bit waist to the 64-bit one.
 *
 * Takes flat protected mode without paging, EDI = boot type, ESI = record, a stack of the front's.
 * Leaves long mode: CR0 = PG|ET|PE, CR4 = PAE, EFER = LME|LMA, our own GDT, RDI and RSI zero-extended,
 * RSP unchanged. No more bits than that: what a kernel wants beyond them it sets itself.
 */
#include <bootbuild/waist.h>

#define CR0_PE_ET 0x11
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

	.text
	.code32
	.globl	bb_switch_32_64
bb_switch_32_64:
	push	%edi
	push	%esi
	call	bb_build_page_tables	/* EAX = the top table */
	pop	%esi
	pop	%edi

	lgdt	gdtr
	mov	%eax, %cr3
	mov	$CR4_PAE, %eax
	mov	%eax, %cr4
	mov	$MSR_EFER, %ecx
	mov	$EFER_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	$(CR0_PG | CR0_PE_ET), %eax
	mov	%eax, %cr0
	ljmp	$BB_CODE, $1f

	.code64
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	/* The upper halves are undefined after a switch of mode (SDM 1, 3.4.1.1). */
	mov	%edi, %edi
	mov	%esi, %esi
	mov	%esp, %esp
	jmp	bb_next

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff	/* BB_CODE: 64-bit, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.long	gdt
