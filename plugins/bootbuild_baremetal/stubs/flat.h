/* SPDX-License-Identifier: 0BSD */
/* How fronts come to flat protected mode with nothing else enabled, whatever a loader has left. Assembly only. */
#ifndef BAREMETAL_FLAT_H
#define BAREMETAL_FLAT_H

#include <bootbuild/flat32.h>

#define CR0_PE_ET 0x11
#define MSR_EFER 0xc0000080

/* CR0 and CR4 as the waist has them: paging ends, so the code has to lie where it is mapped. EAX is lost. */
.macro plain_control_registers
	mov	$CR0_PE_ET, %eax
	mov	%eax, %cr0
	xor	%eax, %eax
	mov	%eax, %cr4
.endm

/* EFER = 0, after paging has ended. EAX, ECX, EDX are lost. */
.macro clear_efer
	mov	$MSR_EFER, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
.endm

/* The same for a CPU that may have none (CPUID 0x80000001, EDX bit 29: long mode). EBX is lost as well. */
.macro clear_efer_if_any
	mov	$0x80000000, %eax
	cpuid
	cmp	$0x80000001, %eax
	jb	2f
	mov	$0x80000001, %eax
	cpuid
	bt	$29, %edx
	jnc	2f
	clear_efer
2:
.endm

/* The NOBITS of the chain. EAX has to be 0; ECX and EDI are lost. */
.macro clear_nobits
	mov	bb_params + BB_PARAMS_BSS_BASE, %edi
	mov	bb_params + BB_PARAMS_BSS_SIZE, %ecx
	shr	$2, %ecx
	rep stosl
.endm

#endif
