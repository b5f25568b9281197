/* SPDX-License-Identifier: 0BSD */
/* Hypercalls of an HVM or PVH guest, of either width, without a hypercall page. */
#ifndef PVH_XEN_H
#define PVH_XEN_H

#include <bootbuild/waist.h>
#include <bootbuild/xen_console.h>

/* xen/include/public/xen.h */
#define XEN_MEMORY_OP 12
#define XEN_HVM_OP 34
#define XEN_DOMID_SELF 0x7ff0

/* memory.h, hvm/hvm_op.h, hvm/params.h */
#define XENMEM_MEMORY_MAP 9
#define XEN_HVM_GET_PARAM 1
#define XEN_PARAM_CONSOLE_PFN 17
#define XEN_PARAM_CONSOLE_EVENT 18

/* The instruction is the vendor's: SVM has VMMCALL, VMX has VMCALL, each faults on the other. */
static inline int xen_uses_vmmcall(void)
{
    uint32_t vendor = bb_cpuid(0).ebx;

    return vendor == 0x68747541 /* AuthenticAMD */ || vendor == 0x6f677948 /* HygonGenuine */;
}

static inline long xen_call(long number, unsigned long a, unsigned long b, unsigned long c)
{
    long result;

#ifdef __x86_64__
#define XEN_ARGUMENTS "+D"(a), "+S"(b), "+d"(c)
#else
#define XEN_ARGUMENTS "+b"(a), "+c"(b), "+d"(c)
#endif
    if (xen_uses_vmmcall())
        __asm__ volatile("vmmcall" : "=a"(result), XEN_ARGUMENTS : "0"(number) : "memory");
    else
        __asm__ volatile("vmcall" : "=a"(result), XEN_ARGUMENTS : "0"(number) : "memory");
#undef XEN_ARGUMENTS
    return result;
}

static inline uint64_t xen_hvm_param(uint32_t index)
{
    struct {
        uint16_t domid, pad;
        uint32_t index;
        uint64_t value;
    } request = {XEN_DOMID_SELF, 0, index, 0};

    if (xen_call(XEN_HVM_OP, XEN_HVM_GET_PARAM, (unsigned long)&request, 0))
        return 0;
    return request.value;
}

static inline void xen_shutdown(uint32_t reason)
{
    xen_call(XEN_SCHED_OP, XEN_SCHED_SHUTDOWN, (unsigned long)&reason, 0);
}

#endif
