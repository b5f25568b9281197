// SPDX-License-Identifier: 0BSD
// A program that makes five levels of the firmware's page tables, as firmware of processors with LA57 has them, and
// comes back with an error: the firmware starts what follows.

#include "../oracles/guest_efi/efi.h"

#define BELOW 1 // EFI_ALLOCATE_TYPE: an address
#define RESERVED 0
#define NOT_FOUND (1ull << 63 | 14)

extern const u8 switch_to_five[], switch_end[];

// Of RCX = where this is, RDX = the top table, both below 4 GiB. The firmware's stack is there, too.
__asm__(R"(
	.text
switch_to_five:
	push	%rbx
	push	%rbp
	push	%rdi
	push	%rsi
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushf
	cli
	mov	%cs, %eax
	push	%rax
	lea	9f(%rip), %rax
	push	%rax
	sub	$16, %rsp
	sgdt	(%rsp)
	lea	gdt(%rip), %rax
	mov	%rax, gdtr + 2(%rip)
	lgdt	gdtr(%rip)
	addl	%ecx, to_32(%rip)
	addl	%ecx, to_64(%rip)
	ljmp	*to_32(%rip)
	.code32
3:	mov	%cr0, %eax
	btr	$31, %eax
	mov	%eax, %cr0
	mov	%edx, %cr3
	mov	%cr4, %eax
	bts	$12, %eax
	mov	%eax, %cr4
	mov	%cr0, %eax
	bts	$31, %eax
	mov	%eax, %cr0
	ljmp	*%cs:(to_64 - switch_to_five)(%ecx)
	.code64
4:	mov	%esp, %esp
	lgdt	(%rsp)
	add	$16, %rsp
	lretq
9:	popf
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rsi
	pop	%rdi
	pop	%rbp
	pop	%rbx
	ret
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00af9b000000ffff
gdtr:	.word	. - gdt - 1
	.quad	0
to_32:	.long	3b - switch_to_five
	.word	8
to_64:	.long	4b - switch_to_five
	.word	16
switch_end:
)");

u64 MS entry(u64 image, struct system_table *system)
{
    static const u16 done[] = u"five levels\r\n", not[] = u"no memory\r\n", none[] = u"no LA57\r\n";
    u64 pages = 0xffffffff, *top, cr3, cr4;
    u32 a = 7, b, c = 0, d;
    u8 *code;

    (void)image;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(c >> 16 & 1)) {
        system->out->call[1](system->out, none);
        return NOT_FOUND;
    }
    if (system->bs->call[AllocatePages](BELOW, RESERVED, 2ull, &pages)) {
        system->out->call[1](system->out, not);
        return NOT_FOUND;
    }
    top = (u64 *)pages;
    code = (u8 *)pages + 4096;
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    for (u32 i = 0; i < 512; i++)
        top[i] = 0;
    top[0] = cr3 | 3;
    for (u32 i = 0; i < (u32)(switch_end - switch_to_five); i++)
        code[i] = switch_to_five[i];
    ((u64 MS(*)(void *, void *))code)(code, top);
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    if (cr4 >> 12 & 1)
        system->out->call[1](system->out, done);
    return NOT_FOUND;
}
