/* SPDX-License-Identifier: 0BSD */
/*
 * The real-mode part of a bzImage: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and "Running the Kernel".
 *
 * A loader puts it at a paragraph of its own, enters it 0x200 bytes behind with CS 0x20 above DS = ES = SS, SP at the end of
 * the heap, IF = 0. Its first page becomes boot_params, where the loader has filled in the header already: it asks the BIOS for
 * memory, opens A20, and enters the protected-mode code with that. The video mode is left alone. What loaders read of the
 * header beside what is here bootbuild writes (containers/bzimage.py).
 */
#include <bootbuild/waist.h>

#define SMAP 0x534d4150
#define E820_ROOM 128
#define E820_SIZE 20
#define AT_EXT_MEM_K 0x002
#define AT_ALT_MEM_K 0x1e0
#define AT_E820_ENTRIES 0x1e8
#define AT_SENTINEL 0x1ef
#define AT_HEADER 0x1f1
#define AT_E820_TABLE 0x2d0
#define PAGE_SIZE 0x1000
#define LOADED_HIGH 1
#define CAN_USE_HEAP 0x80
#define STACK_SIZE 0x400

	/* An offset in the loader's segment. */
#define HERE(symbol) (symbol - bb_linux_setup)

	.text
	.code16
	.globl	bb_linux_setup
bb_linux_setup:
	/* A BIOS that takes the file for a disk: on to the next one. */
	int	$0x18
	jmp	bb_linux_setup

	.org	AT_SENTINEL
	.byte	0xff, 0xff		/* not 0 in the boot_params of a loader that copied more than the header */

	.org	AT_HEADER
	.byte	0			/* setup_sects */
	.word	0			/* root_flags */
	.long	0			/* syssize */
	.word	0			/* ram_size */
	.word	0xffff			/* vid_mode: as it is */
	.word	0			/* root_dev */
	.word	0xaa55			/* boot_flag */
	.byte	0xeb, start - . - 1	/* jump, which also says where the header ends */
	.ascii	"HdrS"
	.word	0x020f			/* version 2.15 */
realmode_swtch:
	.long	0
	.word	0			/* start_sys_seg */
	.word	HERE(version) - 0x200	/* kernel_version */
	.byte	0			/* type_of_loader */
loadflags:
	.byte	LOADED_HIGH
	.word	0x8000			/* setup_move_size */
code32_start:
	.long	0x100000
	.long	0, 0			/* ramdisk_image, ramdisk_size */
	.long	0			/* bootsect_kludge */
heap_end_ptr:
	.word	HERE(end) + STACK_SIZE - 0x200
	.byte	0, 0			/* ext_loader_ver, ext_loader_type */
	.long	0			/* cmd_line_ptr */
	.org	0x26c			/* from initrd_addr_max to kernel_info_offset */

start:
	jmp	code

	.org	PAGE_SIZE		/* behind what is boot_params */
code:
	cld
	mov	%ds, %ax
	mov	%ax, %es
	mov	%ss, %dx
	cmp	%ax, %dx
	mov	%sp, %dx
	je	2f
	/* Some of the oldest loaders leave another SS. */
	mov	$HERE(end), %dx
	testb	$CAN_USE_HEAP, HERE(loadflags)
	jz	1f
	mov	HERE(heap_end_ptr), %dx
1:	add	$STACK_SIZE, %dx
	jnc	2f
	xor	%dx, %dx
2:	and	$~3, %dx
	jnz	3f
	mov	$0xfffc, %dx
3:	mov	%ax, %ss
	movzwl	%dx, %esp
	pushw	%ds
	pushw	$HERE(4f)
	lretw
4:	sti

	xor	%eax, %eax
	mov	%eax, 0			/* what no loader fills is 0 in boot_params */
	mov	%ax, AT_SENTINEL
	mov	%al, HERE(start)
	mov	%ax, HERE(start) + 1

	/* INT 15h, E820: entries of 20 bytes until EBX is 0, or carry says that there are no more. */
	mov	$AT_E820_TABLE, %di
	xor	%ebx, %ebx
1:	mov	$E820_SIZE, %ecx
	mov	$SMAP, %edx
	mov	$0xe820, %eax
	pushw	%di
	int	$0x15
	popw	%di
	jc	3f
	cmp	$SMAP, %eax
	jne	2f
	incb	AT_E820_ENTRIES
	add	$E820_SIZE, %di
	test	%ebx, %ebx
	jz	3f
	cmpb	$E820_ROOM, AT_E820_ENTRIES
	jb	1b
	jmp	3f
2:	movb	$0, AT_E820_ENTRIES	/* a BIOS that forgets how half-way: nothing it said counts */
3:
	/* E801: AX KiB from 1 MiB to 16, BX pieces of 64 KiB above; or the same in CX and DX. */
	xor	%bx, %bx
	xor	%cx, %cx
	xor	%dx, %dx
	mov	$0xe801, %ax
	stc
	int	$0x15
	jc	3f
	mov	%cx, %si
	or	%dx, %si
	jz	1f
	mov	%cx, %ax
	mov	%dx, %bx
1:	cmp	$(15 * 1024), %ax
	ja	3f
	movzwl	%ax, %eax
	jb	2f			/* a hole below 16 MiB: what is above does not count */
	movzwl	%bx, %ebx
	shl	$6, %ebx
	add	%ebx, %eax
2:	mov	%eax, AT_ALT_MEM_K
3:
	/* 88h: KiB from 1 MiB, 64 MiB at the most. */
	mov	$0x8800, %ax
	stc
	int	$0x15
	jc	1f
	mov	%ax, AT_EXT_MEM_K
1:
	/* From here on no interrupt comes. A loader may have left a routine that sees to that. */
	cmpl	$0, HERE(realmode_swtch)
	je	1f
	lcallw	*HERE(realmode_swtch)
	jmp	2f
1:	cli
	mov	$0x80, %al
	out	%al, $0x70		/* no NMI */
2:	call	a20_is_open
	jnz	3f
	mov	$0x2401, %ax		/* the BIOS opens it, … */
	int	$0x15
	cli
	call	a20_is_open
	jnz	3f
	call	keyboard		/* … or the keyboard controller: output port with bit 1, … */
	mov	$0xd1, %al
	out	%al, $0x64
	call	keyboard
	mov	$0xdf, %al
	out	%al, $0x60
	call	keyboard
	call	a20_is_open
	jnz	3f
	in	$0x92, %al		/* … or port 92h: bit 1, without bit 0, which resets */
	or	$2, %al
	and	$~1, %al
	out	%al, $0x92
	call	a20_is_open
	jnz	3f
	mov	$HERE(no_a20), %si
	jmp	say_and_stop
3:
	mov	$0xff, %al
	out	%al, $0xa1		/* the interrupt controllers: all but the cascade masked */
	out	%al, $0x80
	mov	$0xfb, %al
	out	%al, $0x21

	xor	%ebx, %ebx
	mov	%ds, %bx
	shl	$4, %ebx
	lea	HERE(gdt)(%ebx), %eax
	mov	%eax, HERE(gdtr + 2)
	add	%ebx, HERE(far)
	mov	HERE(code32_start), %eax	/* a loader's hook, or where it has put the kernel */
	lidtl	HERE(no_idt)
	lgdtl	HERE(gdtr)
	mov	%cr0, %edx
	or	$1, %dl
	mov	%edx, %cr0
	jmp	1f
1:	ljmpl	*HERE(far)

	.code32
flat:	mov	$BB_DATA, %ecx
	mov	%ecx, %ds
	mov	%ecx, %es
	mov	%ecx, %fs
	mov	%ecx, %gs
	mov	%ecx, %ss
	add	%ebx, %esp
	mov	%ebx, %esi
	bb_zero	ecx, edx, ebp, edi
	/* boot.rst has 0 there: so the entry knows that it was we who came. */
	mov	$BB_HANDOVER_MAGIC, %ebx
	jmp	*%eax

	.code16
	/* ZF = 0 if 0xffff:0x210 is another byte than 0:0x200, tried often: chipsets take their time. */
a20_is_open:
	pushw	%ds
	pushw	%es
	xor	%ax, %ax
	mov	%ax, %ds
	dec	%ax
	mov	%ax, %es
	mov	0x200, %ax
	mov	%ax, %dx
	mov	$32, %cx
1:	inc	%ax
	mov	%ax, 0x200
	out	%al, $0x80
	cmp	%es:0x210, %ax
	loope	1b
	mov	%dx, 0x200
	popw	%es
	popw	%ds
	ret

	/* Waits until the keyboard controller takes a byte; where there is none all bits are set. */
keyboard:
	mov	$0xffff, %cx
1:	out	%al, $0x80
	in	$0x64, %al
	test	$2, %al
	loopnz	1b
	ret

say_and_stop:
	lodsb
	test	%al, %al
	jz	1f
	mov	$7, %bx
	mov	$0x0e, %ah
	int	$0x10
	jmp	say_and_stop
1:	cli
	hlt
	jmp	1b

no_a20:	.asciz	"bootbuild: A20 stays closed\r\n"
version:
	.asciz	"bootbuild"

	.balign	8
gdt:	.quad	0, 0
	.quad	0x00cf9b000000ffff	/* BB_CODE: 32-bit, flat, read-execute, accessed */
	.quad	0x00cf93000000ffff	/* BB_DATA: flat, read-write, accessed */
	.balign	4
	.word	0
gdtr:	.word	4 * 8 - 1
	.long	0
	.balign	4
far:	.long	HERE(flat)
	.word	BB_CODE
	.balign	4
no_idt:	.word	0
	.long	0
end:
