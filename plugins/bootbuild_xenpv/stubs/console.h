/* SPDX-License-Identifier: 0BSD */
/* The console of a PV guest: a domU's ring in its bootstrap region; dom0 has the hypervisor's own. */
#ifndef XENPV_CONSOLE_H
#define XENPV_CONSOLE_H

#include "xen.h"

static inline struct xen_console xen_console(const struct start_info *info)
{
    struct xen_console console = {0, 0};

    if (info->flags & SIF_INITDOMAIN)
        return console;
    console.ring = (volatile struct xen_ring *)xen_virtual(XEN_MACH2PHYS[info->console_mfn]);
    console.port = info->console_evtchn;
    return console;
}

#endif
