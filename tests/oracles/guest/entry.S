/* SPDX-License-Identifier: 0BSD */
/* A 32-bit entry that records every register before it changes one, then says all it was given (dump). */

#ifdef MULTIBOOT
	.section .header, "a", @progbits
	.balign 8
multiboot2:
	.long 0xe85250d6, 0, multiboot2_end - multiboot2, -(0xe85250d6 + multiboot2_end - multiboot2)
	.word 0, 0			/* MULTIBOOT_HEADER_TAG_END */
	.long 8
multiboot2_end:
	.long 0x1badb002, 3, -(0x1badb002 + 3)	/* page-aligned modules, memory information */

	/* Of no segment: GRUB finds it a place by its alignment, between others of less. */
	.section .aside, "", @progbits
	.balign 512
	.ascii "aside"
#else
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* namesz, descsz, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long entry
#endif

	.section .entry, "ax", @progbits
	.code32
	.globl entry
entry:
	/* Absolute stores need flat DS only, which the ABIs promise; ESP is not promised and not used. */
	movl %eax, registers + 0
	movl %ebx, registers + 4
	movl %ecx, registers + 8
	movl %edx, registers + 12
	movl %esi, registers + 16
	movl %edi, registers + 20
	movl %ebp, registers + 24
	movl %esp, registers + 28
	movl $stack_end, %esp
	pushfl
	popl registers + 32
	movl %cr0, %eax
	movl %eax, registers + 36
	movl %cr3, %eax
	movl %eax, registers + 40
	movl %cr4, %eax
	movl %eax, registers + 44
	xorl %eax, %eax
	movw %cs, %ax
	movl %eax, registers + 48
	movw %ds, %ax
	movl %eax, registers + 52
	movw %es, %ax
	movl %eax, registers + 56
	movw %ss, %ax
	movl %eax, registers + 60
	movw %fs, %ax
	movl %eax, registers + 64
	movw %gs, %ax
	movl %eax, registers + 68
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
	pushl registers + 4
	call dump
	/* A triple fault: the one way out that every monitor understands and none needs set up for. */
	lidt no_idt
	int3
1:	hlt
	jmp 1b

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
	.skip ROOM

	.section .note.GNU-stack, "", @progbits
