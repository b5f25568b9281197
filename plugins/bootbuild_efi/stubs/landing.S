/* SPDX-License-Identifier: 0BSD */
/*
 * Where the chain of stubs is entered once it stands in its place behind the payload: RDI = struct handoff.
 *
 * At bb_efi_landing the firmware is gone: what is mapped is one to one, interrupts are off, there is no stack. At
 * bb_efi_landing_alive its boot services live: its stack, tables and IF stay.
 */
#include "application.h"
#include <bootbuild/waist.h>

#define STACK_SIZE 0x1000
#define CR0_PG_PE_ET 0x80000011
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LMA_LME 0x500

	/* The NOBITS of the chain begin at zero. RDI is kept in RBX. */
	.macro	clear
	mov	%rdi, %rbx
	xor	%eax, %eax
	mov	bb_params + BB_PARAMS_BSS_BASE(%rip), %rdi
	mov	bb_params + BB_PARAMS_BSS_SIZE(%rip), %rcx
	shr	$2, %rcx
	rep stosl
	mov	%rbx, %rdi
	.endm

	.text
	.code64
	.globl	bb_efi_landing
bb_efi_landing:
	clear
	lidt	no_idt(%rip)		/* the firmware's is memory that anybody may be given */
	mov	$(stack + STACK_SIZE), %esp
	call	bb_efi_land		/* RAX = the record */
	mov	%rax, %rbx
	call	bb_efi_tables		/* RAX = the top table */
	mov	%rax, %cr3
	mov	$CR4_PAE, %eax
	mov	%rax, %cr4
	mov	$MSR_EFER, %ecx
	rdmsr
	and	$EFER_LMA_LME, %eax
	xor	%edx, %edx
	wrmsr
	mov	$CR0_PG_PE_ET, %eax
	mov	%rax, %cr0
	mov	%rbx, %rsi
	mov	$BB_BOOT_EFI, %edi
	jmp	bb_next

	.globl	bb_efi_landing_alive
bb_efi_landing_alive:
	clear
	and	$-16, %rsp
	call	bb_efi_land
	mov	%rax, %rsi
	mov	$BB_BOOT_EFI, %edi
	jmp	bb_next

	.balign	4
no_idt:	.word	0
	.quad	0

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
