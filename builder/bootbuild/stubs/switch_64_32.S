/* SPDX-License-Identifier: 0BSD */
/*
 * The switch from the 64-bit waist to the 32-bit one.
 *
 * Takes long mode at CPL 0 under an identity map, RDI = boot type, RSI = record (below 4 GiB).
 * Leaves flat protected mode: CR0 = ET|PE, CR4 = 0, EFER without LME, our own GDT, EDI and ESI, ESP
 * the lower half of RSP. TR and LDTR are the environment's.
 */
#include <bootbuild/waist.h>

#define CR0_PE_ET 0x11
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100

	.text
	.code64
	.globl	bb_switch_64_32
bb_switch_64_32:
	mov	$gdtr, %eax
	lgdt	(%rax)
	mov	$far, %eax
	ljmp	*(%rax)

	.code32
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%cr0, %eax
	and	$0x7fffffff, %eax	/* PG first: the other bits only change outside long mode */
	mov	%eax, %cr0
	mov	$MSR_EFER, %ecx
	rdmsr
	and	$~EFER_LME, %eax
	wrmsr
	xor	%eax, %eax
	mov	%eax, %cr4
	mov	$CR0_PE_ET, %eax
	mov	%eax, %cr0
	jmp	bb_next

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00cf9b000000ffff	/* BB_CODE: 32-bit, flat, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
gdtr:	.word	. - gdt - 1
	.quad	gdt
	.balign	4
far:	.long	1b
	.word	BB_CODE
