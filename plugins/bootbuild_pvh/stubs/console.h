/* SPDX-License-Identifier: 0BSD */
/*
 * The console of a PVH guest: under Xen the ring that the toolstack gave (domU) or the hypervisor's own
 * (dom0, which has no ring), elsewhere the first serial port.
 */
#ifndef PVH_CONSOLE_H
#define PVH_CONSOLE_H

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

static inline volatile struct xen_ring *xen_ring(void)
{
    uint64_t page = xen_hvm_param(XEN_PARAM_CONSOLE_PFN);

    if (!page || page >= 1ull << 20) /* above 4 GiB neither width could reach it */
        return 0;
    return (volatile struct xen_ring *)(unsigned long)(page << 12);
}

static inline void xen_ring_notify(void)
{
    uint32_t port = (uint32_t)xen_hvm_param(XEN_PARAM_CONSOLE_EVENT);

    xen_call(XEN_EVENT_CHANNEL_OP, XEN_EVENT_SEND, (unsigned long)&port, 0);
}

/* Waits until at most `left` bytes are unread; 0 if the reader does not get there. */
static inline int xen_ring_drain(volatile struct xen_ring *ring, uint32_t left)
{
    uint32_t seen = ring->out_cons;
    unsigned wait = 0;

    while (ring->out_prod - ring->out_cons > left) {
        if (wait++ == 0)
            xen_ring_notify();
        if (ring->out_cons != seen) {
            seen = ring->out_cons;
            wait = 0;
        }
        if (wait > XEN_PATIENCE)
            return 0;
        xen_yield();
    }
    return 1;
}

static inline unsigned long xen_ring_write(volatile struct xen_ring *ring, const char *text, unsigned long size)
{
    unsigned long done = 0;

    while (done < size && xen_ring_drain(ring, sizeof ring->out - 1)) {
        while (done < size && ring->out_prod - ring->out_cons < sizeof ring->out) {
            ring->out[ring->out_prod % sizeof ring->out] = text[done++];
            /* x86 keeps the order of stores: only the compiler must. */
            __asm__ volatile("" : : : "memory");
            ring->out_prod++;
        }
    }
    xen_ring_notify();
    return done;
}

static inline unsigned long xen_console_write(const char *text, unsigned long size)
{
    volatile struct xen_ring *ring = xen_ring();

    if (ring)
        return xen_ring_write(ring, text, size);
    xen_call(XEN_CONSOLE_IO, XEN_CONSOLE_WRITE, size, (unsigned long)text);
    return size;
}

/* Returns when the ring is empty, so that the domain's last words are not lost with it. */
static inline void xen_console_flush(void)
{
    volatile struct xen_ring *ring = xen_ring();

    if (ring)
        xen_ring_drain(ring, 0);
}

#endif
