/* SPDX-License-Identifier: 0BSD */
/*
 * A Multiboot2 kernel that wants UEFI's boot services alive: a 64-bit entry that records every register before it changes
 * one, then leaves the firmware's world for 32-bit code on its page tables, which says all it was given (dump).
 */
	.section .header, "a", @progbits
	.balign 8
multiboot2:
	.long 0xe85250d6, 0, multiboot2_end - multiboot2, -(0xe85250d6 + multiboot2_end - multiboot2)
	.word 7, 0			/* MULTIBOOT_HEADER_TAG_EFI_BS */
	.long 8
	.word 9, 0			/* MULTIBOOT_HEADER_TAG_ENTRY_ADDRESS_EFI64 */
	.long 12, entry, 0
	.word 0, 0			/* MULTIBOOT_HEADER_TAG_END */
	.long 8
multiboot2_end:

	.section .entry, "ax", @progbits
	.code64
	.globl entry
entry:
	.set at, 0
	.irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15
	movq %\register, registers + at(%rip)
	.set at, at + 8
	.endr
	pushfq
	popq registers + 128(%rip)
	cli
	.irp register, cr0, cr3, cr4
	mov %\register, %rax
	movq %rax, registers + 136 + at - 128(%rip)
	.set at, at + 8
	.endr
	xorl %eax, %eax
	.irp register, cs, ds, es, ss, fs, gs
	movw %\register, %ax
	movq %rax, registers + 136 + at - 128(%rip)
	.set at, at + 8
	.endr
	str %ax
	movq %rax, registers + 208(%rip)
	sldt %ax
	movq %rax, registers + 216(%rip)
	movl $0xc0000080, %ecx		/* EFER */
	rdmsr
	movl %eax, registers + 224(%rip)
	sgdt gdtr(%rip)
	sidt idtr(%rip)
	cld
	lgdt own_gdtr(%rip)
	movl $stack_end, %esp
	pushq $0x08
	movl $1f, %eax
	pushq %rax
	lretq

	.code32
1:	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	pushl registers + 8
	call dump
	/* A triple fault: the one way out that every monitor understands and none needs set up for. */
	lidt no_idt
	int3
1:	hlt
	jmp 1b

	.section .rodata
	.balign 8
own_gdt:
	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
own_gdtr:
	.word . - own_gdt - 1
	.long own_gdt, 0
no_idt:	.word 0
	.quad 0

	.bss
	.balign 16
	.globl registers, gdtr, idtr
registers:
	.skip 232
gdtr:	.skip 16
idtr:	.skip 16
	.balign 16
	.skip 8192
stack_end:
	.skip ROOM

	.section .note.GNU-stack, "", @progbits
