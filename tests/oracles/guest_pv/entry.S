/* SPDX-License-Identifier: 0BSD */
/*
 * A Xen PV entry that records every register before it changes one, then says all it was given (dump.c).
 * With OUTSIDE, the frame table is wanted outside the bootstrap region, and the module need not be mapped. With
 * LINKED, p_paddr is p_vaddr, and PADDR_OFFSET says so.
 */

.macro note type, size
	.balign 4
	.long 4, \size, \type
	.asciz "Xen"
.endm
	.section .note.Xen, "a", @note
	note 1, 8
	.quad pv_entry
	note 3, 8
	.quad 0xffffffff80000000
	note 5, 8
	.asciz "xen-3.0"
	note 8, 8
	.asciz "generic"
#ifdef LINKED
	note 4, 8
	.quad 0xffffffff80000000
#endif
#ifdef OUTSIDE
	note 9, 4
	.asciz "yes"
	note 15, 8
	.quad 0x8000000000
	note 16, 4
	.long 1
#endif

	.section .entry, "ax", @progbits
	.code64
	.globl pv_entry
pv_entry:
	mov %rax, registers + 0(%rip)
	mov %rbx, registers + 8(%rip)
	mov %rcx, registers + 16(%rip)
	mov %rdx, registers + 24(%rip)
	mov %rsi, registers + 32(%rip)
	mov %rdi, registers + 40(%rip)
	mov %rbp, registers + 48(%rip)
	mov %rsp, registers + 56(%rip)
	mov %r8, registers + 64(%rip)
	mov %r9, registers + 72(%rip)
	mov %r10, registers + 80(%rip)
	mov %r11, registers + 88(%rip)
	mov %r12, registers + 96(%rip)
	mov %r13, registers + 104(%rip)
	mov %r14, registers + 112(%rip)
	mov %r15, registers + 120(%rip)
	lea stack_end(%rip), %rsp
	pushfq
	popq registers + 128(%rip)
	xor %eax, %eax
	mov %cs, %ax
	mov %rax, registers + 136(%rip)
	mov %ss, %ax
	mov %rax, registers + 144(%rip)
	mov %ds, %ax
	mov %rax, registers + 152(%rip)
	mov %es, %ax
	mov %rax, registers + 160(%rip)
	mov %fs, %ax
	mov %rax, registers + 168(%rip)
	mov %gs, %ax
	mov %rax, registers + 176(%rip)
	sgdt gdtr(%rip)
	cld
	mov %rsi, %rdi
	call dump
1:	jmp 1b

	.bss
	.balign 16
	.globl registers, gdtr
registers:
	.skip 184
gdtr:	.skip 16
	.balign 16
	.skip 8192
stack_end:

	.section .note.GNU-stack, "", @progbits
