/* SPDX-License-Identifier: 0BSD */
/*
 * The real-mode part of a bzImage that says how it was entered: it records every register before it changes one, asks
 * the BIOS what Linux asks it, and goes on in 32-bit code (linux_entry.S), which says it all.
 */
	.section .setup, "awx", @progbits
	.code16
sector:
	.org 0x1f1
	.byte SECTORS			/* setup_sects */
	.word 0				/* root_flags */
	.long kernel_paragraphs		/* syssize */
	.word 0				/* ram_size */
	.word 0xffff			/* vid_mode */
	.word 0				/* root_dev */
	.word 0xaa55			/* boot_flag */
	.byte 0xeb, entry16 - 1f	/* jump */
1:	.ascii "HdrS"
	.word 0x020f			/* version */
	.long 0				/* realmode_swtch */
	.word 0, 0			/* start_sys_seg, kernel_version */
	.byte 0				/* type_of_loader */
	.byte 1				/* loadflags: LOADED_HIGH */
	.word 0				/* setup_move_size */
	.long 0x100000			/* code32_start */
	.long 0, 0			/* ramdisk_image, ramdisk_size */
	.long 0				/* bootsect_kludge */
	.word 0				/* heap_end_ptr */
	.byte 0, 0			/* ext_loader_ver, ext_loader_type */
	.long 0				/* cmd_line_ptr */
	.long 0x7fffffff		/* initrd_addr_max */
	.long 0x200000			/* kernel_alignment */
	.byte RELOCATABLE		/* relocatable_kernel */
	.byte 21			/* min_alignment */
	.word XLOADFLAGS		/* xloadflags */
	.long 2047			/* cmdline_size */
	.long 0				/* hardware_subarch */
	.quad 0				/* hardware_subarch_data */
	.long 0, 0			/* payload_offset, payload_length */
	.quad 0				/* setup_data */
	.long linked, 0			/* pref_address */
	.long 0x200000			/* init_size */
	.long 0				/* handover_offset */
	.long 0				/* kernel_info_offset */

	/* CS is 0x20 more than the segment of this file, and all that is relied on. */
	.set real, saved - 0x200
entry16:
	movl %eax, %cs:real + 0
	movl %ebx, %cs:real + 4
	movl %ecx, %cs:real + 8
	movl %edx, %cs:real + 12
	movl %esi, %cs:real + 16
	movl %edi, %cs:real + 20
	movl %ebp, %cs:real + 24
	movl %esp, %cs:real + 28
	.set at, 32
	.irp register, cs, ds, es, ss, fs, gs
	movw %\register, %ax
	movw %ax, %cs:real + at
	.set at, at + 4
	.endr
	movl %cr0, %eax
	movl %eax, %cs:real + 56
	sgdtl %cs:real + 60
	sidtl %cs:real + 68
	pushfl
	popl %cs:real + 76
	cld
	movw %cs, %ax
	subw $0x20, %ax
	movw %ax, %ds
	movw %ax, %es

	/* Each call as four words in and, behind them, EAX, EBX, ECX, EDX, EDI and flags as they come out. */
	movw $calls, %bp
	.macro bios number, eax, ebx=0, ecx=0, edx=0
	movl $\eax, %eax
	movl $\ebx, %ebx
	movl $\ecx, %ecx
	movl $\edx, %edx
	call ask_\number
	.endm
	.macro asker number
ask_\number:
	movl $\number, %ds:40(%bp)
	movl %eax, %ds:(%bp)
	movl %ebx, %ds:4(%bp)
	movl %ecx, %ds:8(%bp)
	movl %edx, %ds:12(%bp)
	xorl %edi, %edi
	movw $buffer, %di
	pushl %ebp
	pushw %ds
	pushw %es
	sti
	int $\number
	cli
	popw %es
	popw %ds
	popl %ebp
	jmp answered
	.endm
	bios 0x15, 0xec00, 2
	xorl %ebx, %ebx
1:	movl $0xe820, %eax
	movl $0x534d4150, %edx
	movl $20, %ecx
	call ask_0x15
	testb $1, %ds:36 - 64(%bp)
	jnz 2f
	testl %ebx, %ebx
	jnz 1b
2:	bios 0x15, 0xe801
	bios 0x15, 0x8800
	bios 0x15, 0xe980, 0, 0, 0x47534943
	bios 0x15, 0x2401
	bios 0x15, 0xc000
	bios 0x15, 0x5300
	bios 0x15, 0x1234
	bios 0x16, 0x0200
	bios 0x16, 0x0305
	bios 0x10, 0x0f00
	bios 0x10, 0x0300
	bios 0x10, 0x1a00
	bios 0x10, 0x1200, 0x10
	bios 0x10, 0x4f00
	bios 0x13, 0x4100, 0x55aa, 0, 0x80
	bios 0x13, 0x0800, 0, 0, 0x80
	bios 0x13, 0x1500, 0, 0, 0x80
	bios 0x13, 0x4100, 0x55aa, 0, 0x81
	bios 0x13, 0x0201, buffer, 1, 0x80
	bios 0x11, 0
	bios 0x12, 0
	movw %bp, calls_end

	xorl %esi, %esi
	movw %ds, %si
	shll $4, %esi
	leal descriptors(%esi), %eax
	movl %eax, descriptors + 2
	lgdtl descriptors
	movl code32_start, %ecx
	addl $8, %ecx			/* linux_entry.S: from16 */
	movl %ecx, target
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	ljmpl *%cs:target - 0x200

	.set code32_start, 0x214
asks:
	asker 0x10
	asker 0x11
	asker 0x12
	asker 0x13
	asker 0x15
	asker 0x16
answered:
	movl %eax, %ds:16(%bp)
	movl %ebx, %ds:20(%bp)
	movl %ecx, %ds:24(%bp)
	movl %edx, %ds:28(%bp)
	movl %edi, %ds:32(%bp)
	pushfl
	popl %ds:36(%bp)
	pushl %eax
	movl buffer, %eax
	movl %eax, %ds:44(%bp)
	movl buffer + 4, %eax
	movl %eax, %ds:48(%bp)
	movl buffer + 8, %eax
	movl %eax, %ds:52(%bp)
	movl buffer + 12, %eax
	movl %eax, %ds:56(%bp)
	movl buffer + 16, %eax
	movl %eax, %ds:60(%bp)
	popl %eax
	addw $64, %bp
	ret
	.balign 16
descriptors:
	.word 23
	.long 0
	.word 0
	.quad 0x00cf9b000000ffff, 0x00cf93000000ffff
target:	.long 0
	.word 0x08
	.balign 16
	.globl saved, calls, calls_end
saved:	.skip 80
calls_end:
	.word 0, 0
buffer:	.skip 512
	.balign 16
calls:	.skip 64 * 40
	.org (SECTORS + 1) * 512
	.section .note.GNU-stack, "", @progbits
