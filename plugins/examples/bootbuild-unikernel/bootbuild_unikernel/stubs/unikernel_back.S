/* SPDX-License-Identifier: 0BSD */
/* The back: from the record in RSI to the two arguments of the kernel's start(). */
#include <bootbuild/waist.h>

#define RECORD_CMDLINE 0x28	/* offset in struct bb_handover: docs/handover.md of bootbuild */

	.text
	.code64
	.globl	unikernel_back
unikernel_back:
	mov	RECORD_CMDLINE(%rsi), %rdi
	and	$-16, %rsp
	pushq	$0			/* a return address that nobody returns to: as the psABI has it */
	jmp	*bb_params + BB_PARAMS_STARTUP(%rip)
