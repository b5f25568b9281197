/* SPDX-License-Identifier: 0BSD */
/*
 * A static PIE that speaks one protocol: PVH, or Linux's at width 64 or 32. It says on COM1 where it stands, by a
 * pointer that only a relocation makes right, and whether what it was handed is of its protocol. Then it stops.
 */
#define MAGIC_PVH 0x336ec578
#define HDRS 0x53726448

#ifdef __x86_64__
#define STARTUP startup_64
#else
#define STARTUP startup_32
#endif

	.section .text.start, "ax"
	.globl	STARTUP
STARTUP:
#ifdef __x86_64__
	cmpl	$HDRS, 0x202(%rsi)
	jne	3f
	mov	here(%rip), %rbp
#else
	call	1f
1:	pop	%ebp
#ifdef PVH
	cmpl	$MAGIC_PVH, (%ebx)
#else
	cmpl	$HDRS, 0x202(%esi)
#endif
	jne	3f
	mov	(here - 1b)(%ebp), %ebp
#endif
	mov	$8, %ecx
	mov	$0x3f8, %edx
2:	rol	$4, %ebp
	mov	%ebp, %eax
	and	$15, %al
	add	$'A', %al
	out	%al, %dx
	loop	2b
	mov	$'.', %al
	out	%al, %dx
	mov	$'\n', %al
	out	%al, %dx
3:	cli
	hlt
	jmp	3b

	.data
	.balign	8
#ifdef __x86_64__
here:	.quad	STARTUP
#else
here:	.long	STARTUP
#endif

#ifdef PVH
	.section .note.Xen, "aw", @note
	.balign	4
	.long	4, 4, 18
	.asciz	"Xen"
	.long	STARTUP
#endif
