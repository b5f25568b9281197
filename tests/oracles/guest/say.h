// SPDX-License-Identifier: 0BSD
// How a guest says, as text on port 0xE9, what it found: records, numbers in hex, strings as hex bytes.
//
// QEMU has that port as isa-debugcon, Xen prints a guest's lines from it in its own log: so one channel
// serves every monitor and needs no hypercall. Bochs has it among what it paints: there COM1 is it (-DCOM1).

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef EFI64
extern u64 registers[];
#define REGISTERS "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"
#define FLAGS "rflags"
#else
extern u32 registers[];
#define REGISTERS "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp"
#define FLAGS "eflags"
#endif
extern u8 gdtr[], idtr[];

static void put(char c)
{
#ifdef COM1
    u8 status;

    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0x3f8));
    do
        __asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((u16)0x3fd));
    while (!(status & 0x40)); // until it is on the line: the end of the machine does not wait
#else
    __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0xe9));
#endif
}

#include "words.h"

// A string, if there is one that can be reached.
static void field_text(const char *name, u64 address)
{
    if (address && !(address >> 32))
        put_text(name, (const char *)(u32)address, 4096);
}

static u32 crc32(const u8 *data, u32 size)
{
    u32 crc = ~0u;

    for (u32 i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void dump_cpu(void)
{
    static const char names[][7] = {REGISTERS, FLAGS, "cr0", "cr3", "cr4", "cs", "ds",
                                    "es",      "ss",  "fs",  "gs",  "tr",  "ldtr", "efer"};

    begin("cpu");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        field(names[i], registers[i]);
    field("gdtr_limit", *(u16 *)gdtr);
    field("gdtr_base", *(u32 *)(gdtr + 2));
    field("idtr_limit", *(u16 *)idtr);
    field("idtr_base", *(u32 *)(idtr + 2));
}

static void dump_hypervisor(void)
{
    for (u32 leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
        u32 signature[4] = {0}, top;

        __asm__ volatile("cpuid"
                         : "=a"(top), "=b"(signature[0]), "=c"(signature[1]), "=d"(signature[2])
                         : "0"(leaf), "2"(0));
        if (top < leaf || top > leaf + 0xff)
            continue;
        begin("hypervisor");
        field("leaf", leaf);
        field("top", top);
        field_text("signature", (u32)signature);
    }
}
