/* SPDX-License-Identifier: 0BSD */
/*
 * What stubs share: the parameters that the linker fills in, and small functions that every front needs.
 *
 * A chain of stubs is front → switches → back. The front is entered by the environment; it clears the
 * NOBITS of the whole chain (bss_base, bss_size), fills one struct bb_handover and jumps to `bb_next`
 * with EDI = boot type, ESI = record (RDI, RSI at width 64). Every further piece takes and leaves the
 * same two registers. All stubs run at their physical addresses.
 */
#ifndef BOOTBUILD_WAIST_H
#define BOOTBUILD_WAIST_H

#include <bootbuild/handover.h>

/* Offsets in struct bb_params, for assembly. */
#define BB_PARAMS_STARTUP 0x00
#define BB_PARAMS_BSS_BASE 0x20
#define BB_PARAMS_BSS_SIZE 0x28

/* Selectors of every table of descriptors that our stubs load; those of the Linux boot protocol. */
#define BB_CODE 0x10
#define BB_DATA 0x18

#define BB_MAX_MEMORY 1024 /* entries of memory map that a front passes on at the most; Xen's E820MAX */

#define BB_STACK_SIZE 0x4000 /* bytes of stack that a kernel finds at its startup path */

#ifdef __ASSEMBLER__

	/* Zeroes registers, which are named without %: 32 bits of each, and so all 64 where there are as many. */
	.macro	bb_zero registers:vararg
	.irp	register, \registers
	xor	%\register, %\register
	.endr
	.endm

#else

typedef unsigned long bb_address; /* as wide as the stub's code */

struct bb_range {
    uint64_t base; /* physical */
    uint64_t size; /* bytes */
};

/* Written by bootbuild's linker behind the text of the last stub. */
struct bb_params {
    uint64_t startup;     /* where the back jumps: virtual at width 64, physical at 32 */
    uint64_t stub_base;   /* the physical range that all stubs of the image occupy */
    uint64_t stub_size;
    uint64_t load_offset;
    uint64_t bss_base;    /* NOBITS of this chain, which the front clears */
    uint64_t bss_size;
    uint64_t map_vaddr;   /* the kernel's linked mapping, beside the identity map; … */
    uint64_t map_paddr;
    uint64_t map_size;    /* … 0 if it is linked where it is loaded */
    uint32_t zero_count;  /* the kernel's own .bss, which the front clears */
    uint32_t reserved;
    struct bb_range zero[];
};

_Static_assert(__builtin_offsetof(struct bb_params, startup) == BB_PARAMS_STARTUP, "startup");
_Static_assert(__builtin_offsetof(struct bb_params, bss_base) == BB_PARAMS_BSS_BASE, "bss_base");
_Static_assert(__builtin_offsetof(struct bb_params, bss_size) == BB_PARAMS_BSS_SIZE, "bss_size");
_Static_assert(__builtin_offsetof(struct bb_params, zero) == 0x50, "zero");

extern const struct bb_params bb_params;

#define BB_EXPORT __attribute__((visibility("default")))

/* By words: a kernel's .bss is megabytes, and an emulator counts every step. */
static inline void bb_copy(void *to, const void *from, unsigned long size)
{
    unsigned long words = size / 4, rest = size % 4;

    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
}

static inline void bb_clear(void *to, unsigned long size)
{
    unsigned long words = size / 4, rest = size % 4;

    __asm__ volatile("rep stosl" : "+D"(to), "+c"(words) : "a"(0) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(rest) : "a"(0) : "memory");
}

static inline void bb_outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t bb_inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

struct bb_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct bb_cpuid bb_cpuid(uint32_t leaf)
{
    struct bb_cpuid answer;

    __asm__ volatile("cpuid"
                     : "=a"(answer.eax), "=b"(answer.ebx), "=c"(answer.ecx), "=d"(answer.edx)
                     : "a"(leaf), "c"(0));
    return answer;
}

static inline void __attribute__((noreturn)) bb_stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/*
 * A 16550 that is there takes a byte within some milliseconds. Where there is none, most read all ones, which
 * passes for ready; Firecracker reads 0, so that each byte waits its time out.
 */
static inline void bb_com1_put(char c)
{
    for (unsigned wait = 0; wait < 0x10000 && !(bb_inb(0x3f8 + 5) & 0x20); wait++)
        __asm__ volatile("pause");
    bb_outb(0x3f8, (uint8_t)c);
}

static inline void bb_com1_write(const char *text, unsigned long size)
{
    for (; size; size--, text++) {
        if (*text == '\n')
            bb_com1_put('\r');
        bb_com1_put(*text);
    }
}

/* Port 0xe9 is the debug console of Bochs and QEMU; elsewhere nothing is there. */
static inline void bb_e9_write(const char *text, unsigned long size)
{
    for (; size; size--, text++)
        bb_outb(0xe9, (uint8_t)*text);
}

static inline unsigned long bb_length(const char *text)
{
    unsigned long size = 0;

    while (text[size])
        size++;
    return size;
}

/* On the consoles of a PC: which of them is there, a back does not know. */
static inline void bb_say(const char *text)
{
    bb_com1_write(text, bb_length(text));
    bb_e9_write(text, bb_length(text));
}

/* How a back that cannot go on ends: `whom` it cannot start, and why. */
static inline void __attribute__((noreturn)) bb_give_up(const char *whom, const char *reason)
{
    bb_say("bootbuild: cannot start ");
    bb_say(whom);
    bb_say(": ");
    bb_say(reason);
    bb_say("\n");
    bb_stop();
}

struct bb_hypervisor {
    uint32_t type; /* BB_HYPERVISOR_* */
    uint32_t leaf; /* its first CPUID leaf; 0: none */
};

/* The hypervisor whose signature this is, by the CPUID documentation of each. */
static inline uint32_t bb_hypervisor_of(struct bb_cpuid id)
{
#define BB_IS(b, c, d) (id.ebx == (b) && id.ecx == (c) && id.edx == (d))
    if (BB_IS(0x566e6558, 0x65584d4d, 0x4d4d566e)) /* XenVMMXenVMM */
        return BB_HYPERVISOR_XEN;
    if (BB_IS(0x4b4d564b, 0x564b4d56, 0x0000004d)) /* KVMKVMKVM\0\0\0 */
        return BB_HYPERVISOR_KVM;
    if (BB_IS(0x54474354, 0x43544743, 0x47435447)) /* TCGTCGTCGTCG */
        return BB_HYPERVISOR_TCG;
    if (BB_IS(0x7263694d, 0x666f736f, 0x76482074)) /* Microsoft Hv */
        return BB_HYPERVISOR_HYPER_V;
    if (BB_IS(0x61774d56, 0x4d566572, 0x65726177)) /* VMwareVMware */
        return BB_HYPERVISOR_VMWARE;
    if (BB_IS(0x76796862, 0x68622065, 0x20657679)) /* bhyve bhyve, space */
        return BB_HYPERVISOR_BHYVE;
#undef BB_IS
    return BB_HYPERVISOR_UNKNOWN;
}

/*
 * Xen and KVM put their leaves behind those of a hypervisor that they imitate for Windows, so all places
 * are looked at, and Xen, then KVM, outrank what comes first.
 */
static inline struct bb_hypervisor bb_detect_hypervisor(void)
{
    struct bb_hypervisor found = {BB_HYPERVISOR_NONE, 0};

    for (uint32_t leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
        struct bb_hypervisor here = {bb_hypervisor_of(bb_cpuid(leaf)), leaf};

        if (here.type == BB_HYPERVISOR_XEN)
            return here;
        if (here.type == BB_HYPERVISOR_UNKNOWN)
            continue;
        if (here.type == BB_HYPERVISOR_KVM ? found.type != BB_HYPERVISOR_KVM : !found.leaf)
            found = here;
    }
    if (!found.leaf && bb_cpuid(1).ecx >> 31) {
        found.type = BB_HYPERVISOR_UNKNOWN;
        found.leaf = 0x40000000;
    }
    return found;
}

/* Fills in the words that frame a record which is otherwise complete. */
static inline void bb_seal(struct bb_handover *record)
{
    const uint32_t *word = (const uint32_t *)record;
    uint32_t sum = 0;

    record->magic = BB_HANDOVER_MAGIC;
    record->version = BB_HANDOVER_VERSION;
    record->size = sizeof *record;
    record->stub_base = bb_params.stub_base;
    record->stub_size = bb_params.stub_size;
    record->load_offset = bb_params.load_offset;
    record->checksum = 0;
    for (unsigned i = 0; i < sizeof *record / sizeof *word; i++)
        sum += word[i];
    record->checksum = -sum;
}

/* The record as a kernel has it that does not keep the stub range: what lies there is absent. */
static inline void bb_copy_unkept(struct bb_handover *to, const struct bb_handover *record)
{
    bb_copy(to, record, sizeof *to);
    to->cmdline = to->modules = to->memmap = 0;
    to->framebuffer = to->post_stub = 0;
    to->module_count = to->memmap_count = 0;
    if (record->flags & BB_FLAG_DATA_COPIED)
        to->data = 0;
    bb_seal(to);
}

#endif /* __ASSEMBLER__ */
#endif /* BOOTBUILD_WAIST_H */
