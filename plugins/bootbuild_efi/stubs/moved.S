/* SPDX-License-Identifier: 0BSD */
/* Before the landing of an image that the application may have put elsewhere than it is linked: RDI = struct handoff. */
#include <bootbuild/moved.h>

	.text
	.code64
	.globl	bb_efi_moved
bb_efi_moved:
	mov	%rdi, %r8
	bb_mend
	mov	%r8, %rdi
	jmp	bb_next
