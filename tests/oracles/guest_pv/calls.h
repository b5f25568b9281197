// SPDX-License-Identifier: 0BSD
// What the parts that make hypercalls share: odd addresses, pages to try things on, and what an exception left.
#ifndef CALLS_H
#define CALLS_H

#include "dump.h"

#define SELF 0x7ff0 // DOMID_SELF
#define NOWHERE 0x1000ull
#define XENS 0xffff820000000000ull // a GDT that Xen maps there
#define UNCANONICAL (1ull << 63)
#define PRESENT 0x67 // and writable, user, accessed, dirty

// What the last exception left, and where the guest goes on after it.
struct taken {
    u64 vector, error, rip, cs, flags, stack, ss, saved_stack, resume;
};
extern struct taken taken;

extern const struct start_info *info;
extern u8 scratch[PAGE];
extern u64 words[1024]; // aligned to a page, as that is

#define TRY(instructions)                                                                                             \
    do {                                                                                                              \
        taken.vector = taken.error = 0;                                                                               \
        __asm__ volatile("mov %%rsp, taken+56(%%rip)\n lea 1f(%%rip), %%rax\n mov %%rax, taken+64(%%rip)\n" instructions \
                         "\n1:"                                                                                       \
                         :                                                                                            \
                         : "b"(info->pt_base)                                                                         \
                         : "rax", "rcx", "rdx", "r11", "memory", "cc");                                               \
        field("vector", taken.vector);                                                                                \
        field("error", taken.error);                                                                                  \
    } while (0)

static inline u64 frame(const void *at)
{
    return ((const u64 *)info->mfn_list)[((u64)at - BASE) / PAGE];
}

// Go on by the iret hypercall, at `rip` or, if that is 0, behind it.
void iret(u64 cs, u64 ss, u64 rip, u64 in_syscall);
void trap6(void);

// Of exceptions (faults.c), of pages and descriptors (pages.c), and of grants (grants.c).
void traps(void);
void irets(void);
void tables(void);
void descriptors(void);
void grants(void);

#endif
