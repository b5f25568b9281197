/* SPDX-License-Identifier: 0BSD */
/* The console of a PVH guest under Xen: the ring that the toolstack gave (domU); dom0 has none. */
#ifndef PVH_CONSOLE_H
#define PVH_CONSOLE_H

#include "xen.h"

static inline struct xen_console xen_console(void)
{
    uint64_t page = xen_hvm_param(XEN_PARAM_CONSOLE_PFN);
    struct xen_console console = {0, 0};

    if (!page || page >= 1ull << 20) /* above 4 GiB neither width could reach it */
        return console;
    console.ring = (volatile struct xen_ring *)(unsigned long)(page << 12);
    console.port = (uint32_t)xen_hvm_param(XEN_PARAM_CONSOLE_EVENT);
    return console;
}

#endif
