/* SPDX-License-Identifier: 0BSD */
/*
 * The back for a kernel that speaks PVH, as docs/misc/pvh.pandoc has the machine: EBX = hvm_start_info, flat 32-bit
 * segments, a busy 32-bit TSS of base 0 and limit 0x67 in TR, CR0.PE alone, CR4 = 0, VM = IF = TF = 0. Left open
 * there, and given all the same: ESP, the tables, flags and registers of 0.
 */
#include <bootbuild/flat32.h>

#define TASK 0x20
#define GDT_SIZE 0x28

	.text
	.code32
	.globl	bb_pvh_back
bb_pvh_back:
	mov	$(stack + BB_STACK_SIZE - 12), %esp	/* a multiple of 16 before the call (i386 psABI) */
	pushl	%esi
	call	bb_pvh_start_info	/* EAX = what it made */
	mov	%eax, %ebx
	mov	$descriptors, %esi
	mov	$gdt, %edi
	mov	$GDT_SIZE / 4, %ecx
	rep movsl
	bb_flat_32
	mov	$TASK, %eax
	ltr	%ax
	lidt	no_idt
	pushl	bb_params + BB_PARAMS_STARTUP
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	pushl	$0
	popfl
	ret

	.balign	8
descriptors:
	.quad	0, 0
	.quad	BB_FLAT_CODE_32
	.quad	BB_FLAT_DATA_32
	.quad	0x0000890000000067	/* TASK: an available 32-bit TSS of 0x68 bytes at 0 */
gdtr:	.word	GDT_SIZE - 1
	.long	gdt
	.balign	4
no_idt:	.word	0
	.long	0

	.bss
	.balign	16
stack:	.skip	BB_STACK_SIZE
gdt:	.skip	GDT_SIZE		/* not with the code: LTR marks the TSS as busy */
