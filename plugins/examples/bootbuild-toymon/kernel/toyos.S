/* SPDX-License-Identifier: 0BSD */
/* A kernel of the toyos family (README.md): prints its command line and switches off. Knows no monitor. */

#define TOYOS_MAGIC 0x54594f53
#define CONSOLE_WRITE 1
#define SHUTDOWN 2

	.text
	.globl	startup_32
startup_32:
	cmp	$TOYOS_MAGIC, %eax
	jne	stop
	mov	%ecx, record
	mov	%edx, post_stub
	mov	$label, %esi
	call	print
	test	%ebx, %ebx
	jz	1f
	mov	%ebx, %esi
	call	print
1:	mov	$farewell, %esi
	call	print
	pushl	$0			/* power off */
	pushl	$SHUTDOWN
	pushl	record
	call	*post_stub
stop:	cli
	hlt
	jmp	stop

print:					/* the NUL-terminated text at ESI */
	mov	%esi, %edi
	mov	$-1, %ecx
	xor	%eax, %eax
	repne scasb
	not	%ecx
	dec	%ecx
	mov	%esi, text
	mov	%ecx, text + 8
	pushl	$text
	pushl	$CONSOLE_WRITE
	pushl	record
	call	*post_stub
	add	$12, %esp
	ret

	.section .rodata, "a"
label:	.asciz	"toyos: "
farewell:
	.asciz	"\ntoyos: done\n"

	.bss
	.balign	8
record:	.skip	4
post_stub:
	.skip	4
text:	.skip	16			/* struct bb_post_text */
