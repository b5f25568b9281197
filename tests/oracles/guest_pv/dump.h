// SPDX-License-Identifier: 0BSD
// What the parts of the guest share: the words in which it says things (dump.c), and a hypercall.
#ifndef DUMP_H
#define DUMP_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PAGE 4096
#define BASE 0xffffffff80000000ull // VIRT_BASE

struct start_info {
    char magic[32];
    u64 nr_pages, shared_info;
    u32 flags, pad0;
    u64 store_mfn;
    u32 store_evtchn, pad1;
    u64 console_mfn;
    u32 console_evtchn, pad2;
    u64 pt_base, nr_pt_frames, mfn_list, mod_start, mod_len;
    char cmd_line[1024];
    u64 first_p2m_pfn, nr_p2m_frames;
};

// Begin a record, and a field of it.
void begin(const char *kind);
void field(const char *name, u64 value);

// What Xen answers to updates of page tables (tables.c), to string instructions on ports (ports.c), and to
// hypercalls: those of event channels (events.c), and all others (calls.c, which has the rest called).
void tables_refused(const struct start_info *info);
void string_ports(const struct start_info *info);
void hypercalls(const struct start_info *info);
void events(const struct start_info *info);

static inline long call4(long number, u64 a, u64 b, u64 c, u64 d)
{
    register u64 fourth __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(fourth)
                     : "0"(number)
                     : "rcx", "r11", "memory");
    return result;
}

static inline long call(long number, u64 a, u64 b, u64 c)
{
    return call4(number, a, b, c, 0);
}

#endif
