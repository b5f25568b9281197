/* SPDX-License-Identifier: 0BSD */
/*
 * Before a kernel's own PVH entry: clears its .bss, and leaves the machine as the environment did.
 *
 * Flat DS and SS are promised, so a fixed place can take every register before there is a stack. No
 * segment is loaded and no table changed: the kernel finds GDTR, IDTR and selectors untouched.
 */
#include <bootbuild/waist.h>

#define STACK_SIZE 0x400

	.text
	.code32
	.globl	bb_pvh_chain
bb_pvh_chain:
	movl	%esp, saved_esp
	movl	$(stack + STACK_SIZE), %esp
	pushfl
	pushal
	cld
	pushl	%ebx
	call	bb_pvh_before
	popl	%ebx
	popal
	popfl
	movl	saved_esp, %esp
	jmp	*bb_params + BB_PARAMS_STARTUP

	.bss
	.balign	16
saved_esp:
	.skip	16
stack:	.skip	STACK_SIZE
