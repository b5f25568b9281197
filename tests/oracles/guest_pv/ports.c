// SPDX-License-Identifier: 0BSD
// INS and OUTS in ring 3: with and without IOPL, forwards and backwards, and where memory ends.
#include "dump.h"

#define PORT 0x80 // nothing answers, and nothing listens
#define READ_ONLY 0x65

struct trap_info {
    u8 vector, flags;
    unsigned short cs;
    u32 pad;
    void (*address)(void);
};

struct fault {
    u64 vector, error, stack, resume;
} fault;

static u8 memory[3 * PAGE] __attribute__((aligned(PAGE)));

// On the stack: rcx, r11, error code, rip … Noted, and gone on at fault.resume.
void general(void);
void page(void);
__asm__("general: movq $13, fault(%rip)\n"
        "	jmp 1f\n"
        "page: movq $14, fault(%rip)\n"
        "1:	pop %rcx\n"
        "	pop %r11\n"
        "	pop fault+8(%rip)\n"
        "	mov fault+16(%rip), %rsp\n"
        "	jmp *fault+24(%rip)\n");

#define STRING(name, setup, instruction, count, start)                                                                 \
    do {                                                                                                               \
        u64 left = (count), source = (u64)(start), target = (u64)(start), cr2;                                         \
        fault.vector = fault.error = 0;                                                                                \
        __asm__ volatile("mov %%rsp, fault+16(%%rip)\n lea 1f(%%rip), %%rax\n mov %%rax, fault+24(%%rip)\n" setup      \
                         "\n" instruction "\n 1: cld\n mov %%cr2, %%rax\n mov %%rax, %3"                               \
                         : "+c"(left), "+S"(source), "+D"(target), "=m"(cr2)                                           \
                         : "d"(PORT)                                                                                   \
                         : "rax", "r11", "memory");                                                                    \
        begin(name);                                                                                                   \
        field("vector", fault.vector);                                                                                 \
        field("error", fault.error);                                                                                   \
        field("fault", fault.vector == 14 ? cr2 - (u64)memory : 0);                                                    \
        field("left", left);                                                                                           \
        field("source", source - (u64)(start));                                                                        \
        field("target", target - (u64)(start));                                                                        \
        field("read", *(u64 *)memory);                                                                                 \
        field("tail", memory[PAGE - 1]);                                                                               \
        memory[PAGE - 1] = 0;                                                                                          \
        for (int i = 0; i < 8; i++)                                                                                    \
            memory[i] = 0;                                                                                             \
    } while (0)

void string_ports(const struct start_info *info)
{
    static const struct trap_info table[] = {{13, 0, 0xe033, 0, general}, {14, 0, 0xe033, 0, page}, {0}};
    u64 middle = ((const u64 *)info->mfn_list)[((u64)memory + PAGE - BASE) / PAGE] * PAGE;
    u32 iopl = 1;

    call(0, (u64)table, 0, 0);
    call(14, (u64)memory + PAGE, middle | READ_ONLY, 2);
    call(14, (u64)memory + 2 * PAGE, 0, 2);
    STRING("no_iopl_insb", "cld", "rep insb", 3, memory);
    STRING("no_iopl_outsb", "cld", "rep outsb", 3, memory);
    call(33, 6, (u64)&iopl, 0); // PHYSDEVOP_set_iopl
    STRING("insb", "cld", "rep insb", 3, memory);
    STRING("insw", "cld", "rep insw", 3, memory);
    STRING("insl", "cld", "rep insl", 1, memory);
    STRING("insl_alone", "cld", "insl", 9, memory);
    STRING("insb_backwards", "std", "rep insb", 3, memory + 5);
    STRING("insb_none", "cld", "rep insb", 0, memory);
    STRING("insb_readonly", "cld", "rep insb", 9, memory + PAGE - 4);
    STRING("insl_readonly", "cld", "rep insl", 9, memory + PAGE - 6);
    STRING("insl_readonly_alone", "cld", "insl", 9, memory + PAGE - 2);
    STRING("insb_nowhere", "cld", "rep insb", 9, 0x800000000000);
    STRING("insb_xens", "cld", "rep insb", 9, 0xffff800000000000);
    STRING("insb_32_bits", "cld", "rep addr32 insb", 9, 0x123450000000);
    STRING("insb_32_bits_alone", "cld", "addr32 insb", 9, 0x123450000000);
    STRING("outsb", "cld", "rep outsb", 3, memory);
    STRING("outsl", "cld", "rep outsl", 3, memory);
    STRING("outsb_backwards", "std", "rep outsb", 3, memory + 5);
    STRING("outsb_readonly", "cld", "rep outsb", 3, memory + PAGE);
    STRING("outsw_unmapped", "cld", "rep outsw", 9, memory + 2 * PAGE - 5);
    STRING("outsb_nowhere", "cld", "rep outsb", 9, 0x800000000000);
}
