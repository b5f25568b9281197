/* SPDX-License-Identifier: 0BSD */
/*
 * Xen's console as a guest has it: the ring that a toolstack gave, or else the hypervisor's own (console_io).
 *
 * Whoever includes this defines xen_call, in the way in which its kind of guest makes a hypercall.
 */
#ifndef BOOTBUILD_XEN_CONSOLE_H
#define BOOTBUILD_XEN_CONSOLE_H

#include <stdint.h>

/* xen/include/public: xen.h, sched.h, event_channel.h */
#define XEN_CONSOLE_IO 18
#define XEN_SCHED_OP 29
#define XEN_EVENT_CHANNEL_OP 32
#define XEN_CONSOLE_WRITE 0
#define XEN_SCHED_YIELD 0
#define XEN_SCHED_SHUTDOWN 2
#define XEN_SHUTDOWN_POWEROFF 0
#define XEN_SHUTDOWN_CRASH 3
#define XEN_EVENT_SEND 4

/* xen/include/public/io/console.h */
struct xen_ring {
    char in[1024];
    char out[2048];
    uint32_t in_cons, in_prod;
    uint32_t out_cons, out_prod;
};

/* A console of this guest: no ring is the hypervisor's own. */
struct xen_console {
    volatile struct xen_ring *ring;
    uint32_t port; /* event channel to whoever reads the ring */
};

/* Turns without a byte read after which nobody is taken to listen: about a second. */
#define XEN_PATIENCE 0x20000

static inline long xen_call(long number, unsigned long a, unsigned long b, unsigned long c);

static inline void xen_ring_notify(struct xen_console console)
{
    xen_call(XEN_EVENT_CHANNEL_OP, XEN_EVENT_SEND, (unsigned long)&console.port, 0);
}

/* Waits until at most `left` bytes are unread; 0 if the reader does not get there. */
static inline int xen_ring_drain(struct xen_console console, uint32_t left)
{
    volatile struct xen_ring *ring = console.ring;
    uint32_t seen = ring->out_cons;
    unsigned wait = 0;

    while (ring->out_prod - ring->out_cons > left) {
        if (wait++ == 0)
            xen_ring_notify(console);
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

static inline unsigned long xen_ring_write(struct xen_console console, const char *text, unsigned long size)
{
    volatile struct xen_ring *ring = console.ring;
    unsigned long done = 0;

    while (done < size && xen_ring_drain(console, sizeof ring->out - 1)) {
        while (done < size && ring->out_prod - ring->out_cons < sizeof ring->out) {
            ring->out[ring->out_prod % sizeof ring->out] = text[done++];
            /* x86 keeps the order of stores: only the compiler must. */
            __asm__ volatile("" : : : "memory");
            ring->out_prod++;
        }
    }
    xen_ring_notify(console);
    return done;
}

/* Bytes that were written. */
static inline unsigned long xen_console_write(struct xen_console console, const char *text, unsigned long size)
{
    if (console.ring)
        return xen_ring_write(console, text, size);
    xen_call(XEN_CONSOLE_IO, XEN_CONSOLE_WRITE, size, (unsigned long)text);
    return size;
}

/* Returns when the ring is empty, so that the domain's last words are not lost with it. */
static inline void xen_console_flush(struct xen_console console)
{
    if (console.ring)
        xen_ring_drain(console, 0);
}

#endif
