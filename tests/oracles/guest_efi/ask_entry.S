/* SPDX-License-Identifier: 0BSD */
/* Where ask.c is entered. */
	.section .entry, "ax", @progbits
	.globl entry
entry:
	jmp ask

	.section .note.GNU-stack, "", @progbits
