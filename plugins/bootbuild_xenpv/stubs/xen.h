/* SPDX-License-Identifier: 0BSD */
/* What Xen hands a 64-bit PV guest, and the hypercalls by which it is asked: xen/include/public. */
#ifndef XENPV_XEN_H
#define XENPV_XEN_H

#include <bootbuild/waist.h>
#include <bootbuild/xen_console.h>

/* xen.h */
#define XEN_SET_TRAP_TABLE 0
#define XEN_MMU_UPDATE 1
#define XEN_SET_CALLBACKS 4
#define XEN_MEMORY_OP 12
#define XEN_UPDATE_VA_MAPPING 14
#define XEN_DOMID_SELF 0x7ff0
#define XEN_UVMF_INVLPG 2

/* memory.h */
#define XENMEM_MEMORY_MAP 9

#define SIF_INITDOMAIN 2
#define SIF_MOD_START_PFN 8

#define XEN_PAGE 4096
#define XEN_CMDLINE 1024 /* MAX_GUEST_CMDLINE, with its NUL */

/* xen.h: machine to physical, mapped read-only for every PV guest (arch-x86/xen-x86_64.h) */
#define XEN_MACH2PHYS ((const uint64_t *)0xffff800000000000)

struct start_info {
    char magic[32]; /* "xen-3.0-x86_64", or with a p behind it */
    uint64_t nr_pages;
    uint64_t shared_info; /* machine address */
    uint32_t flags;
    uint32_t pad0;
    uint64_t store_mfn;
    uint32_t store_evtchn;
    uint32_t pad1;
    uint64_t console_mfn; /* of a domU; 0 or offset and size of video information in dom0 */
    uint32_t console_evtchn;
    uint32_t pad2;
    uint64_t pt_base;
    uint64_t nr_pt_frames;
    uint64_t mfn_list;
    uint64_t mod_start; /* virtual; a frame number with SIF_MOD_START_PFN */
    uint64_t mod_len;
    char cmd_line[XEN_CMDLINE];
    uint64_t first_p2m_pfn;
    uint64_t nr_p2m_frames;
};

_Static_assert(__builtin_offsetof(struct start_info, cmd_line) == 128, "cmd_line");
_Static_assert(sizeof(struct start_info) == 0x490, "start_info");

/* What the target says of the notes that it wrote, and the pages that belong to them (settings.py). */
struct pv_settings {
    uint64_t paddr_offset; /* PADDR_OFFSET */
    uint64_t hypercalls;   /* whether bb_pv_hypercall_page is there, and filled by Xen */
    uint64_t tables;       /* pages at bb_pv_tables */
};

#define HIDDEN __attribute__((visibility("hidden")))
extern const struct pv_settings bb_pv_settings HIDDEN;
extern const char bb_pv_hypercall_page[] HIDDEN;
extern uint64_t bb_pv_tables[][512] HIDDEN;

/* By the page that Xen filled, or as that does it: rcx and r11 are lost by syscall alone. */
static inline long xen_call4(long number, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
    register unsigned long fourth __asm__("r10") = d;
    long result;

    if (bb_pv_settings.hypercalls)
        __asm__ volatile("call *%[entry]"
                         : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(fourth)
                         : [entry] "r"(bb_pv_hypercall_page + 32 * number)
                         : "rcx", "r8", "r9", "r11", "memory");
    else
        __asm__ volatile("syscall"
                         : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(fourth)
                         : "0"(number)
                         : "rcx", "r8", "r9", "r11", "memory");
    return result;
}

static inline long xen_call(long number, unsigned long a, unsigned long b, unsigned long c)
{
    return xen_call4(number, a, b, c, 0);
}

/* Where the stubs run less where they are loaded: the processor knows the one, the linker the other. */
static inline uint64_t xen_distance(void)
{
    uint64_t here, loaded;

    __asm__("1: lea 1b(%%rip), %0; movabs $1b, %1" : "=r"(here), "=r"(loaded));
    return here - loaded;
}

/* Where the bootstrap region has a frame of the domain, if it is mapped there: it begins at VIRT_BASE. */
static inline uint64_t xen_virtual(uint64_t frame)
{
    return frame * XEN_PAGE + bb_pv_settings.paddr_offset + xen_distance();
}

static inline int xen_is_start_info(const struct start_info *info)
{
    static const char magic[] = "xen-3.0-x86_64";

    for (unsigned i = 0; i < sizeof magic - 1; i++)
        if (info->magic[i] != magic[i])
            return 0;
    return 1;
}

static inline void __attribute__((noreturn)) xen_shutdown(uint32_t reason)
{
    for (;;)
        xen_call(XEN_SCHED_OP, XEN_SCHED_SHUTDOWN, (unsigned long)&reason, 0);
}

#endif
