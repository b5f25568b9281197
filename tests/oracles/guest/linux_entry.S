/* SPDX-License-Identifier: 0BSD */
/* The protected-mode part of a bzImage that says how it was entered: its 32-bit entry, and where linux_setup.S goes on. */
#include "registers.h"

	.section .entry, "ax", @progbits
	.code32
	.globl entry
entry:	jmp from_loader
	.org 8
	/* ESI: where the real-mode code lies */
from16:	movl $stack_end, %esp
	pushl %esi
	call dump_real
	jmp stop

from_loader:
	record_registers
	pushl registers + 16
	call dump
stop:	end_run
