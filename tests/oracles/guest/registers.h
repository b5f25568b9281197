/* SPDX-License-Identifier: 0BSD */
/* For 32-bit entries in assembly: all registers recorded before one is changed, and the end of a run. */

	.macro record_registers
	/* Absolute stores need flat DS only, which the ABIs promise; ESP is not promised and not used. */
	.set at, 0
	.irp register, eax, ebx, ecx, edx, esi, edi, ebp, esp
	movl %\register, registers + at
	.set at, at + 4
	.endr
	movl $stack_end, %esp
	pushfl
	popl registers + 32
	.set at, 36
	.irp register, cr0, cr3, cr4
	movl %\register, %eax
	movl %eax, registers + at
	.set at, at + 4
	.endr
	xorl %eax, %eax
	.irp register, cs, ds, es, ss, fs, gs
	movw %\register, %ax
	movl %eax, registers + at
	.set at, at + 4
	.endr
	str %ax
	movl %eax, registers + 72
	sldt %ax
	movl %eax, registers + 76
	sgdt gdtr
	sidt idtr
	movl $0xc0000080, %ecx		/* EFER */
	rdmsr
	movl %eax, registers + 80
	cld
	.endm

	/* A triple fault: the one way out that every monitor understands and none needs set up for. */
	.macro end_run
	lidt no_idt
	int3
1:	hlt
	jmp 1b
	.endm

	.section .rodata
no_idt:	.word 0
	.long 0

	.bss
	.balign 16
	.globl registers, gdtr, idtr
registers:
	.skip 84
gdtr:	.skip 8
idtr:	.skip 8
	.balign 16
	.skip 8192
stack_end:
	.section .note.GNU-stack, "", @progbits
