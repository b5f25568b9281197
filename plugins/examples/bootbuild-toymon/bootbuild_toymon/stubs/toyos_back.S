/* SPDX-License-Identifier: 0BSD */
/* The back for toyos: from the record in ESI to the four registers that its startup path takes. */
#include <bootbuild/waist.h>

#define TOYOS_MAGIC 0x54594f53
#define RECORD_CMDLINE 0x28	/* offsets in struct bb_handover: docs/handover.md of bootbuild */
#define RECORD_POST_STUB 0xa0

	.text
	.code32
	.globl	toyos_back
toyos_back:
	mov	RECORD_CMDLINE(%esi), %ebx
	mov	RECORD_POST_STUB(%esi), %edx
	mov	%esi, %ecx
	mov	$TOYOS_MAGIC, %eax
	jmp	*bb_params + BB_PARAMS_STARTUP
