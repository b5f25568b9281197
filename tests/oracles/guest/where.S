/* SPDX-License-Identifier: 0BSD */
/*
 * A Multiboot2 kernel that runs wherever its loader has put it, and says on port 0xE9 where that is: the address of
 * its entry, the load base of the information (tag 21), and the information itself. Then it resets the machine.
 */
	.section .multiboot, "a"
	.balign	8
header:	.long	0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
	.short	3, 0
	.long	12, start
	.balign	8
	.short	10, 0
	.long	24, LEAST, MOST, ALIGN, PREFERENCE
	.short	0, 0
	.long	8
header_end:

	.text
	.globl	start
start:	lea	8(%ebx), %esp
	call	1f
1:	pop	%esi
	sub	$(1b - start), %esi
	lea	(stack - start + 64)(%esi), %esp
	mov	%esi, %edx
	call	say
	lea	8(%ebx), %edi
2:	cmpl	$21, (%edi)
	je	3f
	mov	4(%edi), %eax
	lea	7(%edi, %eax), %edi
	and	$-8, %edi
	jmp	2b
3:	mov	8(%edi), %edx
	call	say
	mov	%ebx, %edx
	call	say
	mov	$'\n', %al
	out	%al, $0xe9
	lidt	(nothing - start)(%esi)
	ud2

/* EDX as eight digits, and a blank. */
say:	mov	$8, %ecx
4:	rol	$4, %edx
	mov	%dl, %al
	and	$15, %al
	cmp	$10, %al
	sbb	$0x69, %al
	das
	out	%al, $0xe9
	loop	4b
	mov	$' ', %al
	out	%al, $0xe9
	ret

nothing:
	.short	0
	.long	0

	.bss
stack:	.skip	64
	.skip	BSS
