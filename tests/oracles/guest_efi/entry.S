/* SPDX-License-Identifier: 0BSD */
/* A UEFI application that records every register before it changes one, then says all it finds (dump), and returns. */
	.section .entry, "ax", @progbits
	.globl entry
entry:
	.set at, 0
	.irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15
	movq %\register, registers + at(%rip)
	.set at, at + 8
	.endr
	pushfq
	popq registers + 128(%rip)
	.set at, 136
	.irp register, cr0, cr3, cr4
	mov %\register, %rax
	movq %rax, registers + at(%rip)
	.set at, at + 8
	.endr
	xorl %eax, %eax
	.irp register, cs, ds, es, ss, fs, gs
	movw %\register, %ax
	movq %rax, registers + at(%rip)
	.set at, at + 8
	.endr
	str %ax
	movq %rax, registers + 208(%rip)
	sldt %ax
	movq %rax, registers + 216(%rip)
	pushq %rcx
	pushq %rdx
	movl $0xc0000080, %ecx		/* EFER */
	rdmsr
	movl %eax, registers + 224(%rip)
	fnstcw registers + 232(%rip)
	stmxcsr registers + 240(%rip)
	sgdt gdtr(%rip)
	sidt idtr(%rip)
	popq %rdx
	popq %rcx
	subq $0x28, %rsp
	call dump
	addq $0x28, %rsp
	ret

	.bss
	.balign 16
	.globl registers, gdtr, idtr
registers:
	.skip 248
gdtr:	.skip 16
idtr:	.skip 16

	.section .note.GNU-stack, "", @progbits
