/* SPDX-License-Identifier: 0BSD */
/*
 * A kernel that understands one protocol only. It brings what that protocol does not promise: a stack, a table, and
 * its own segments. MULTIBOOT2, PVH or LINUX says which it is; the first two are started where their header or note says.
 */
	.section .header, "a", @progbits
#ifdef MULTIBOOT2
	.balign 8
header:	.long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
	.balign 8
	.short 1, 0			/* it demands: command line, modules, memory map */
	.long 20, 1, 3, 6
	.balign 8
	.short 3, 0			/* it is entered at: */
	.long 12, start
	.balign 8
	.short 6, 0			/* modules begin at a page */
	.long 8
#ifdef MORE
	MORE
#endif
	.balign 8
	.short 0, 0
	.long 8
header_end:
#elif defined(PVH)
	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 4, 18			/* namesz, descsz, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start
#endif

	.section .entry, "ax", @progbits
	.code32
	.globl start, finished
start:	mov	$stack_end, %esp
	lgdt	gdtr
	ljmp	$8, $1f
1:	mov	$16, %ecx
	mov	%ecx, %ds
	mov	%ecx, %es
	mov	%ecx, %ss
	cld
#ifdef LINUX
	pushl	%esi
#else
	pushl	%ebx
#endif
	pushl	%eax
	call	kernel
finished:				/* all was said */
	cli
	hlt
	jmp	finished

	.section .rodata
	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word . - gdt - 1
	.long gdt

	.bss
	.balign 16
	.skip 8192
stack_end:
	.section .note.GNU-stack, "", @progbits
