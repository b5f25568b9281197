/* SPDX-License-Identifier: 0BSD */
/* The console of a PV guest: a domU's ring in its bootstrap region, or for dom0 the hypervisor's own. */
#ifndef XENPV_CONSOLE_H
#define XENPV_CONSOLE_H

#include "xen.h"

/* xen/include/public/io/console.h */
struct xen_ring {
    char in[1024];
    char out[2048];
    uint32_t in_cons, in_prod;
    uint32_t out_cons, out_prod;
};

/* Turns without a byte read after which nobody is taken to listen: about a second. */
#define XEN_PATIENCE 0x20000

/* In the bootstrap region, where every frame of the domain is as far from its address as the stubs are. */
static inline volatile struct xen_ring *xen_ring(const struct start_info *info)
{
    return (volatile struct xen_ring *)(XEN_MACH2PHYS[info->console_mfn] * XEN_PAGE + xen_distance());
}

static inline void xen_ring_notify(const struct start_info *info)
{
    uint32_t port = info->console_evtchn;

    xen_call(XEN_EVENT_CHANNEL_OP, XEN_EVENT_SEND, (unsigned long)&port, 0);
}

/* Waits until at most `left` bytes are unread; 0 if the reader does not get there. */
static inline int xen_ring_drain(const struct start_info *info, volatile struct xen_ring *ring, uint32_t left)
{
    uint32_t seen = ring->out_cons;
    unsigned wait = 0;

    while (ring->out_prod - ring->out_cons > left) {
        if (wait++ == 0)
            xen_ring_notify(info);
        if (ring->out_cons != seen) {
            seen = ring->out_cons;
            wait = 0;
        }
        if (wait > XEN_PATIENCE)
            return 0;
        xen_call(XEN_SCHED_OP, XEN_SCHED_YIELD, 0, 0);
    }
    return 1;
}

static inline unsigned long xen_ring_write(const struct start_info *info, volatile struct xen_ring *ring,
                                           const char *text, unsigned long size)
{
    unsigned long done = 0;

    while (done < size && xen_ring_drain(info, ring, sizeof ring->out - 1)) {
        while (done < size && ring->out_prod - ring->out_cons < sizeof ring->out) {
            ring->out[ring->out_prod % sizeof ring->out] = text[done++];
            /* x86 keeps the order of stores: only the compiler must. */
            __asm__ volatile("" : : : "memory");
            ring->out_prod++;
        }
    }
    xen_ring_notify(info);
    return done;
}

static inline unsigned long xen_console_write(const struct start_info *info, const char *text,
                                              unsigned long size)
{
    volatile struct xen_ring *ring = info->flags & SIF_INITDOMAIN ? 0 : xen_ring(info);

    if (ring)
        return xen_ring_write(info, ring, text, size);
    xen_call(XEN_CONSOLE_IO, XEN_CONSOLE_WRITE, size, (unsigned long)text);
    return size;
}

/* Returns when the ring is empty, so that the domain's last words are not lost with it. */
static inline void xen_console_flush(const struct start_info *info)
{
    volatile struct xen_ring *ring = info->flags & SIF_INITDOMAIN ? 0 : xen_ring(info);

    if (ring)
        xen_ring_drain(info, ring, 0);
}

#endif
