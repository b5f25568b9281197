/* SPDX-License-Identifier: 0BSD */
/*
 * Where the firmware enters the application (UEFI 2.10, 2.3.4), and how it is left.
 *
 * Entered by ms_abi: RCX = image handle, RDX = system table, in long mode on the firmware's stack and tables. It runs
 * wherever the firmware loaded it: no absolute addresses.
 */
#include "application.h"

#define CR4_PGE 0x80
#define CR0_PG_BIT 31

	.text
	.code64
	.globl	bb_efi_entry
bb_efi_entry:
	push	%rdi			/* the caller's, by ms_abi */
	push	%rsi
	sub	$8, %rsp
	cld
	mov	%rcx, %rdi
	mov	%rdx, %rsi
	call	bb_efi_application
	add	$8, %rsp		/* it has returned: RAX says why, and the firmware goes on */
	pop	%rsi
	pop	%rdi
	ret

/*
 * RDI = struct departure. Under the firmware's tables the copy of the copier may not be executable, while this code is:
 * so the new tables, which map it where it stands, come first. What the old ones call global outlives them, with its
 * rights, until CR4.PGE is cleared (SDM 3A, 4.10.4.1). From then on nothing of the firmware is used.
 */
	.globl	bb_efi_leave
bb_efi_leave:
	cli
	mov	DEPARTURE_TABLES(%rdi), %rax
	mov	DEPARTURE_FOUR_LEVELS(%rdi), %rbx
	mov	DEPARTURE_COPIER(%rdi), %rdx
	mov	DEPARTURE_MOVES(%rdi), %r8
	mov	DEPARTURE_COUNT(%rdi), %r9
	mov	DEPARTURE_LANDING(%rdi), %r10
	mov	DEPARTURE_HANDOFF(%rdi), %r11
	mov	%rax, %cr3
	mov	%cr4, %rax
	and	$~CR4_PGE, %rax
	mov	%rax, %cr4
	jmp	*%rdx

/* RDI = where the chain is entered, RSI = struct handoff; the firmware lives on. */
	.globl	bb_efi_join
bb_efi_join:
	mov	%rdi, %rax
	mov	%rsi, %rdi
	jmp	*%rax

/*
 * RDX = where this is, below 4 GiB. Moves R9 pieces of which R8 tells, makes of five levels of tables the four at RBX if
 * that is not 0, and goes on at R10 with RDI = R11. It has no stack.
 */
	.globl	bb_efi_copier
bb_efi_copier:
	test	%r9, %r9
	jz	1f
	mov	(%r8), %rdi
	mov	8(%r8), %rsi
	mov	16(%r8), %rcx
	shr	$3, %rcx
	rep movsq
	mov	16(%r8), %rcx
	and	$7, %ecx
	rep movsb
	add	$24, %r8
	dec	%r9
	jmp	bb_efi_copier
1:	mov	%r11, %rdi
	test	%ebx, %ebx
	jnz	2f
	jmp	*%r10

	/*
	 * Out of long mode and in again. R8 to R15 and the upper halves of the others do not outlive that, and no segment
	 * register but CS is known to be of use.
	 */
2:	mov	%r10, %rsi
	lea	gdt(%rip), %rax
	mov	%rax, gdtr + 2(%rip)
	lgdt	gdtr(%rip)
	addl	%edx, to_32(%rip)
	addl	%edx, to_64(%rip)
	ljmp	*to_32(%rip)

	.code32
3:	mov	%cr0, %eax
	btr	$CR0_PG_BIT, %eax
	mov	%eax, %cr0
	mov	%ebx, %cr3
	mov	%cr4, %eax
	and	$~CR4_LA57, %eax
	mov	%eax, %cr4
	mov	%cr0, %eax
	bts	$CR0_PG_BIT, %eax
	mov	%eax, %cr0
	ljmp	*%cs:(to_64 - bb_efi_copier)(%edx)

	.code64
4:	mov	%edi, %edi
	mov	%esi, %esi
	jmp	*%rsi

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* 8: 32-bit code, flat, readable, accessed */
	.quad	0x00af9b000000ffff	/* 16: the same of 64 bit */
gdtr:	.word	. - gdt - 1
	.quad	0
to_32:	.long	3b - bb_efi_copier
	.word	8
to_64:	.long	4b - bb_efi_copier
	.word	16
	.org	bb_efi_copier + COPIER_ROOM
