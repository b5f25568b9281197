/* SPDX-License-Identifier: 0BSD */
/*
 * The protected-mode code of a bzImage: entered at its start in 32-bit mode, 0x200 bytes behind in 64-bit mode, wherever a
 * loader has put it (Documentation/arch/x86/boot.rst, "32-bit" and "64-bit Boot Protocol"). It moves all of itself to the place
 * for which it is linked, above the kernel, unpacks that, and goes on at the kernel's own front stub in flat 32-bit mode:
 * EDI = boot type, EDX:ESI = boot_params.
 *
 * Promised: boot_params in ESI or RSI, flat segments, IF = 0, and in 32-bit code EBX = EBP = EDI = 0; in 64-bit code an identity
 * map of this and of boot_params. Not promised: a stack, the tables behind GDTR and IDTR, other registers. Up to `placed`
 * EBP (RBP) is where it was loaded, and every address relative to that.
 */
#include "flat.h"

#define AT_SCRATCH 0x1e4
#define AT_EXT_CMD_LINE 0x0c8
#define AT_EXT_RAMDISK 0x0c0
#define AT_EXT_RAMDISK_SIZE 0x0c4
#define AT_E820_ENTRIES 0x1e8
#define AT_RAMDISK 0x218
#define AT_RAMDISK_SIZE 0x21c
#define AT_CMD_LINE 0x228
#define AT_E820_TABLE 0x2d0
#define E820_SIZE 20
#define E820_RAM 1

/* struct bzimage of linux_head.c */
#define PLACE (bb_bzimage + 0x00 - bb_linux_head)
#define SIZE (bb_bzimage + 0x04 - bb_linux_head)
#define LOW (bb_bzimage + 0x08 - bb_linux_head)
#define HIGH (bb_bzimage + 0x0c - bb_linux_head)

#define STACK_SIZE 0x1000
#define LEAST_MOVE 0x1000	/* bytes; all code that runs where it was loaded is shorter */
#define CR4_LA57_BIT 12
#define PAGE_SIZE 4096
#define PRESENT_WRITABLE 3
#define LARGE 0x80

	/* Relative to where this is. */
#define HERE(symbol) (symbol - bb_linux_head)

	.text
	.code32
	.globl	bb_linux_head
bb_linux_head:
	cli
	cld
	mov	$BB_BOOT_LINUX_32, %edi
	cmp	$BB_HANDOVER_MAGIC, %ebx
	jne	1f
	mov	$BB_BOOT_LINUX_16, %edi	/* it was our own real-mode code that came */
1:	mov	AT_SCRATCH(%esi), %eax	/* the only memory that is known: a word for this very purpose */
	lea	AT_SCRATCH + 4(%esi), %esp
	call	1f
1:	pop	%ebp
	sub	$HERE(1b), %ebp
	mov	%eax, AT_SCRATCH(%esi)
	xor	%edx, %edx
	jmp	loaded_low

	.globl	bb_bzimage
	.balign	16
bb_bzimage:
	.skip	0x40			/* bootbuild's words: containers/bzimage.py */
	.globl	bb_kernel_info
bb_kernel_info:				/* boot.rst, "kernel_info" */
	.ascii	"LToP"
	.long	16, 16			/* bytes of this, and with what it could lead to */
	.long	0x80000000 | 9		/* setup_type_max: SETUP_INDIRECT and SETUP_RNG_SEED; we pass on what we do not know */

	.balign	8
gdt:	.quad	0, 0
	.quad	BB_FLAT_CODE_32
	.quad	BB_FLAT_DATA_32
gdtr:	.word	. - gdt - 1
	.quad	0
	.balign	8
saved:	.quad	0			/* boot_params */
	.long	0			/* boot type */
	.balign	16
	.skip	0x20
loaded_stack:

	.org	bb_linux_head + 0x200
	.code64
	cli
	cld
	lea	bb_linux_head(%rip), %rbp
	lea	loaded_stack(%rip), %rsp
	mov	%rsi, saved(%rip)
	mov	%rbp, %rax
	shr	$32, %rax
	jnz	loaded_high
below:	lea	gdt(%rip), %rax
	mov	%rax, gdtr + 2(%rip)
	lgdt	gdtr(%rip)
	pushq	$BB_CODE
	lea	1f(%rip), %rax
	pushq	%rax
	lretq
	.code32
1:	mov	$BB_DATA, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	plain_control_registers
	clear_efer
	mov	$BB_BOOT_LINUX_64, %edi
	mov	HERE(saved)(%ebp), %esi
	mov	HERE(saved) + 4(%ebp), %edx

	/* Paging is off or about to be, EBP = where this was loaded, EDI = boot type, EDX:ESI = boot_params. */
loaded_low:
	lea	HERE(loaded_stack)(%ebp), %esp
	mov	%esi, HERE(saved)(%ebp)
	mov	%edx, HERE(saved) + 4(%ebp)
	mov	%edi, HERE(saved) + 8(%ebp)
	lea	HERE(gdt)(%ebp), %eax
	mov	%eax, HERE(gdtr) + 2(%ebp)
	lgdt	HERE(gdtr)(%ebp)
	pushl	$BB_CODE
	lea	HERE(1f)(%ebp), %eax
	pushl	%eax
	lret
1:	mov	$BB_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	plain_control_registers

	test	%edx, %edx
	jnz	move			/* boot_params above 4 GiB lie in nobody's way, and cannot be read here */
	call	check

move:	mov	SIZE(%ebp), %ecx
	shr	$2, %ecx
	mov	PLACE(%ebp), %edx
	mov	%edx, %eax
	sub	%ebp, %eax		/* EAX = how far up */
	jz	2f
	jb	1f
	cmp	$LEAST_MOVE, %eax
	jb	too_near
	lea	-4(%ebp, %ecx, 4), %esi
	lea	-4(%edx, %ecx, 4), %edi
	std				/* from the end on: the two may overlap */
	rep movsl
	cld
	jmp	2f
1:	neg	%eax
	cmp	$LEAST_MOVE, %eax
	jb	too_near
	/* Down: that may overwrite this code, so that two instructions of it go before the place. */
	movl	$0xe0ffa5f3, -16(%edx)	/* rep movsl; jmp *%eax */
	mov	%ebp, %esi
	mov	%edx, %edi
	lea	HERE(placed)(%edx), %eax
	sub	$16, %edx
	jmp	*%edx
2:	lea	HERE(placed)(%edx), %eax
	jmp	*%eax

	/* From here on this is where it is linked. */
placed:
	mov	$gdt, %eax
	mov	%eax, gdtr + 2
	lgdt	gdtr
	xor	%eax, %eax
	clear_nobits
	mov	$(stack + STACK_SIZE), %esp
	pushl	$0
	popfl
	call	bb_unpack		/* EAX = the kernel's front stub */
	mov	saved, %esi
	mov	saved + 4, %edx
	mov	saved + 8, %edi
	jmp	*%eax

too_near:
	lea	HERE(near_text)(%ebp), %esi
	jmp	die

	/*
	 * Whether what this will write, LOW to HIGH, is RAM, and none of what the loader has handed over: pref_address and
	 * init_size have told it, but not every loader listens. ESI = boot_params.
	 */
check:	mov	%esi, %eax
	mov	$PAGE_SIZE, %ecx
	call	spare
	cmpl	$0, AT_EXT_CMD_LINE(%esi)
	jne	1f
	mov	AT_CMD_LINE(%esi), %eax
	mov	$1, %ecx
	call	spare
1:	mov	AT_EXT_RAMDISK(%esi), %eax
	or	AT_EXT_RAMDISK_SIZE(%esi), %eax
	jnz	1f
	mov	AT_RAMDISK(%esi), %eax
	mov	AT_RAMDISK_SIZE(%esi), %ecx
	call	spare
1:	movzbl	AT_E820_ENTRIES(%esi), %ecx
	jecxz	3f
	lea	AT_E820_TABLE(%esi), %ebx
1:	cmpl	$E820_RAM, 16(%ebx)
	jne	2f
	cmpl	$0, 4(%ebx)
	jne	2f
	mov	(%ebx), %eax
	cmp	LOW(%ebp), %eax
	ja	2f
	add	8(%ebx), %eax
	jc	3f
	cmpl	$0, 12(%ebx)
	jne	3f
	cmp	HIGH(%ebp), %eax
	jae	3f
2:	add	$E820_SIZE, %ebx
	loop	1b
	lea	HERE(memory_text)(%ebp), %esi
	jmp	die
3:	ret

	/* EAX: start, ECX: bytes of what must not be overwritten. */
spare:	jecxz	1f
	cmp	HIGH(%ebp), %eax
	jae	1f
	add	%ecx, %eax
	jc	2f
	cmp	LOW(%ebp), %eax
	jbe	1f
2:	lea	HERE(way_text)(%ebp), %esi
	jmp	die
1:	ret

	/* ESI: text. COM1 without waiting for long, and the debug console of Bochs and QEMU. */
die:	lodsb
	test	%al, %al
	jz	2f
	out	%al, $0xe9
	mov	%al, %ah
	mov	$0x3fd, %dx
	mov	$0x10000, %ecx
1:	in	%dx, %al
	test	$0x20, %al
	loopz	1b
	mov	%ah, %al
	mov	$0x3f8, %dx
	out	%al, %dx
	jmp	die
2:	cli
	hlt
	jmp	2b

	.code64
	/*
	 * Above 4 GiB: the loader's map has this, and need not have the place where it goes. So tables of our own, in what
	 * init_size has reserved behind it: the first 4 GiB, and the GiB in which this begins with the next one.
	 */
loaded_high:
	mov	SIZE(%rbp), %ebx
	lea	PAGE_SIZE - 1(%rbp, %rbx), %rbx
	and	$-PAGE_SIZE, %rbx	/* RBX: ten tables */
	xor	%eax, %eax
	mov	%rbx, %rdi
	mov	$(10 * PAGE_SIZE / 8), %ecx
	rep stosq

	lea	PAGE_SIZE + PRESENT_WRITABLE(%rbx), %rax
	mov	%rax, (%rbx)		/* table 0 → 1: the first 512 GiB */
	mov	$4, %ecx		/* 1 → 2 to 5: the first 4 GiB */
	lea	PAGE_SIZE(%rbx), %rdi
1:	add	$PAGE_SIZE, %rax
	mov	%rax, (%rdi)
	add	$8, %rdi
	loop	1b
	lea	2 * PAGE_SIZE(%rbx), %rdi
	mov	$(LARGE | PRESENT_WRITABLE), %eax
	mov	$(4 * 512), %ecx
	call	granules

	lea	PAGE_SIZE(%rbx), %rdi	/* 1, or 6 for other 512 GiB, → 7 and 8: where this is */
	mov	%rbp, %rdx
	shr	$39, %rdx
	and	$511, %edx
	jz	1f
	lea	6 * PAGE_SIZE(%rbx), %rdi
	lea	PRESENT_WRITABLE(%rdi), %rax
	mov	%rax, (%rbx, %rdx, 8)
1:	mov	%rbp, %rdx
	shr	$30, %rdx
	mov	%rdx, %rsi
	shl	$30, %rsi
	and	$511, %edx
	lea	7 * PAGE_SIZE + PRESENT_WRITABLE(%rbx), %rax
	mov	%rax, (%rdi, %rdx, 8)
	cmp	$511, %edx		/* a bzImage across a border of 512 GiB is not to be had */
	je	1f
	add	$PAGE_SIZE, %rax
	mov	%rax, 8(%rdi, %rdx, 8)
1:	lea	7 * PAGE_SIZE(%rbx), %rdi
	lea	LARGE | PRESENT_WRITABLE(%rsi), %rax
	mov	$(2 * 512), %ecx
	call	granules

	mov	%rbx, %rax
	mov	%cr4, %rdx
	bt	$CR4_LA57_BIT, %edx
	jnc	1f
	lea	9 * PAGE_SIZE(%rbx), %rax	/* five levels: 9 → 0 */
	lea	PRESENT_WRITABLE(%rbx), %rdx
	mov	%rdx, (%rax)
1:	mov	%rax, %cr3

	mov	%rbp, %rsi
	mov	PLACE(%rbp), %edi
	mov	SIZE(%rbp), %ecx
	mov	%rdi, %rbp
	shr	$3, %ecx
	rep movsq
	lea	HERE(loaded_stack)(%rbp), %rsp
	lea	HERE(below)(%rbp), %rax
	jmp	*%rax

	/* ECX pages of 2 MiB from the one in RAX on, at RDI. */
granules:
	mov	%rax, (%rdi)
	add	$8, %rdi
	add	$0x200000, %rax
	loop	granules
	ret

way_text:
	.asciz	"bootbuild: cannot unpack the kernel: boot_params, the command line or the initrd lies where it goes\r\n"
memory_text:
	.asciz	"bootbuild: cannot unpack the kernel: there is no RAM where it goes\r\n"
near_text:
	.asciz	"bootbuild: cannot unpack the kernel: it was loaded less than a page from where it goes\r\n"

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
