// SPDX-License-Identifier: 0BSD
// Exceptions of a small guest, how Xen delivers them, and the ways back that it takes and does not.
#include "calls.h"

struct trap_info {
    u8 vector, flags;
    unsigned short cs;
    u32 pad;
    void (*address)(void);
};

struct taken taken;

// On the stack: rcx, r11, the error code if there is one, rip, cs, rflags, rsp, ss
#define NO_ERROR "	movq $0x900d, taken+8(%rip)\n"
#define ERROR "	pop taken+8(%rip)\n"
#define HANDLER(name, vector, code)                                                                                   \
    void name(void);                                                                                                  \
    __asm__(".globl " #name "\n" #name ": movq $" #vector ", taken(%rip)\n pop %rcx\n pop %r11\n" code "	jmp noted\n")
HANDLER(trap6, 6, NO_ERROR);
HANDLER(trap7, 7, NO_ERROR);
HANDLER(trap11, 11, ERROR);
HANDLER(trap12, 12, ERROR);
HANDLER(trap13, 13, ERROR);
HANDLER(trap14, 14, ERROR);
HANDLER(trap80, 0x80, NO_ERROR);
__asm__("noted: pop taken+16(%rip)\n"
        "	pop taken+24(%rip)\n"
        "	pop taken+32(%rip)\n"
        "	pop taken+40(%rip)\n"
        "	pop taken+48(%rip)\n"
        "	mov taken+56(%rip), %rsp\n"
        "	jmp *taken+64(%rip)\n");

void iret(u64 cs, u64 ss, u64 rip, u64 in_syscall)
{
    taken.vector = taken.error = 0;
    __asm__ volatile("mov %%rsp, taken+56(%%rip)\n"
                     "	lea 1f(%%rip), %%rax\n"
                     "	mov %%rax, taken+64(%%rip)\n"
                     "	test %2, %2\n"
                     "	cmovz %%rax, %2\n"
                     "	push %1\n"
                     "	push taken+56(%%rip)\n"
                     "	push $2\n" // events stay masked
                     "	push %0\n"
                     "	push %2\n"
                     "	push %3\n"
                     "	push $0\n"
                     "	push $0\n"
                     "	push $0\n"
                     "	mov $23, %%eax\n"
                     "	syscall\n"
                     "1:"
                     : "+r"(cs), "+r"(ss), "+r"(rip), "+r"(in_syscall)
                     :
                     : "rax", "rcx", "r11", "memory", "cc");
    begin("iret");
    field("cs", cs);
    field("ss", ss);
    field("vector", taken.vector);
    field("error", taken.error);
    if (taken.vector) {
        field("pushed_cs", taken.cs);
        field("pushed_ss", taken.ss);
        field("pushed_flags", taken.flags);
        field("stack_kept", taken.stack == taken.saved_stack);
        field("rip_kept", taken.rip == rip);
    }
}

// INT of other vectors is left out: QEMU's TCG pushes an error code that no processor does (vector * 16 + 2).
void traps(void)
{
    static struct trap_info table[] = {{6, 0, 0xe033, 0, trap6},       {7, 0, 0xe033, 0, trap7},
                                       {11, 0, 0xe033, 0, trap11},     {12, 0, 0xe033, 0, trap12},
                                       {13, 0, 0xe033, 0, trap13},     {14, 0, 0xe033, 0, trap14},
                                       {0x80, 0, 0x1234, 0, trap80},   {0}};

    // An entry to the end of a scratch that nothing follows; and one that is no address behind another one
    static struct trap_info ends[2 * PAGE / sizeof(struct trap_info)] __attribute__((aligned(PAGE)));
    static struct trap_info broken[] = {
        {6, 0, 0xe033, 0, trap13}, {7, 0, 0xe033, 0, (void (*)(void))UNCANONICAL}, {0}};
    const int last = PAGE / sizeof *ends - 1;

    begin("trap_table");
    field("set", call(0, (u64)table, 0, 0));
    field("nowhere", call(0, NOWHERE, 0, 0));
    ends[last] = (struct trap_info){6, 0, 0xe033, 0, trap80};
    field("unmap", call(14, (u64)&ends[last + 1], 0, 2));
    field("ends", call(0, (u64)&ends[last], 0, 0));
    TRY("ud2");
    field("uncanonical", call(0, (u64)broken, 0, 0));
    TRY("push $0\n ud2"); // trap13 takes an error code
    field("set", call(0, (u64)table, 0, 0));
    begin("read_fault");
    TRY("mov 0xffffffffc0000000, %%rax");
    begin("fetch_fault");
    TRY("mov $0x1000, %%eax\n jmp *%%rax");
    begin("table_fault");
    TRY("mov %%rbx, (%%rbx)");
    begin("ud2");
    TRY("ud2");
    begin("int80");
    TRY("int $0x80");
    begin("task_switched");
    field("set", call(5, 1, 0, 0));
    TRY("fnop");
    begin("told_once");
    TRY("fnop");
    begin("task_not_switched");
    field("set", call(5, 1, 0, 0));
    field("cleared", call(5, 0, 0, 0));
    TRY("fnop");
    begin("task_switched_by_cr0");
    TRY("mov %%cr0, %%rax\n or $8, %%rax\n mov %%rax, %%cr0\n fnop");
}

void irets(void)
{
    iret(0xe030, 0xe02b, 0, 0);
    iret(0, 0xe02b, 0, 0);
    iret(0x10, 0xe02b, 0, 0);
    iret(0xe028, 0xe02b, 0, 0); // data
    iret(0xe008, 0xe02b, 0, 0); // Xen's own code
    iret(0xe030, 0, 0, 0);
    iret(0xe030, 0xe030, 0, 0); // code
    iret(0xe030, 0xe02b, UNCANONICAL, 0);
    iret(0, 0, 0, 0x100); // VGCF_in_syscall
    iret(0, 0, UNCANONICAL, 0x100);
}
