/* SPDX-License-Identifier: 0BSD */
/*
 * Where a Multiboot loader enters, of either version.
 *
 * Promised (Multiboot 0.6.96 §3.2, Multiboot2 2.0 §3.3): EAX = magic, EBX = information, flat CS, DS, ES, FS, GS,
 * SS, CR0.PE, no paging, VM and IF clear, A20 on. Not promised: ESP, every other register and flag, the other bits of
 * CR0, CR4, EFER, GDTR, IDTR. So: our own table before any segment is loaded, our own stack before anything is pushed,
 * and the control registers as the waist has them: GRUB on UEFI leaves CR4 and EFER as the firmware had them.
 */
#include <bootbuild/flat32.h>

#define STACK_SIZE 0x2000
#define CR0_PE_ET 0x11
#define MSR_EFER 0xc0000080
#define RECORD_BOOT_TYPE 0x10

	.text
	.code32
	.globl	bb_multiboot_entry
bb_multiboot_entry:
	cli
	cld
	mov	%eax, %ebp
	bb_flat_32
	lidt	no_idt
	mov	$CR0_PE_ET, %eax
	mov	%eax, %cr0
	xor	%eax, %eax
	mov	%eax, %cr4

	mov	bb_params + BB_PARAMS_BSS_BASE, %edi
	mov	bb_params + BB_PARAMS_BSS_SIZE, %ecx
	shr	$2, %ecx
	rep stosl

	mov	$(stack + STACK_SIZE), %esp
	pushl	$0
	popfl

	/* EFER is there if the CPU has long mode (CPUID 0x80000001, EDX bit 29); firmware may have left LME set. */
	mov	%ebx, %esi
	mov	$0x80000000, %eax
	cpuid
	cmp	$0x80000001, %eax
	jb	2f
	mov	$0x80000001, %eax
	cpuid
	bt	$29, %edx
	jnc	2f
	mov	$MSR_EFER, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
2:
	subl	$8, %esp		/* the i386 psABI wants a multiple of 16 before the call */
	pushl	%esi
	pushl	%ebp
	call	bb_multiboot_main	/* EAX = the record */
	mov	%eax, %esi
	mov	RECORD_BOOT_TYPE(%eax), %edi
	jmp	bb_next

	bb_flat_table_32

	.bss
	.balign	16
stack:	.skip	STACK_SIZE
