/* SPDX-License-Identifier: 0BSD */
/* What the fronts of bare metal do alike: the record's scalars, what is kept, and why they stop. STARTED_BY: by whom. */
#ifndef BAREMETAL_H
#define BAREMETAL_H

#include <bootbuild/front.h>

extern uint64_t bb_post(const struct bb_handover *, uint32_t, void *);

static void say(const char *text)
{
    bb_com1_write(text, bb_length(text));
    bb_e9_write(text, bb_length(text));
}

static void bb_die(const char *reason)
{
    say("bootbuild: cannot start from " STARTED_BY ": ");
    say(reason);
    say("\n");
    bb_stop();
}

static void begin(uint32_t boot_type)
{
    struct bb_hypervisor hypervisor = bb_detect_hypervisor();

    bb_record.boot_type = boot_type;
    bb_record.hypervisor_type = hypervisor.type;
    bb_record.hypervisor_leaf = hypervisor.leaf;
    bb_record.post_stub = (bb_address)bb_post;
}

/* `copy` takes the place of the information if that lies in the kernel's .bss. */
static void keep_data(const void *start, uint32_t size, const void *copy)
{
    bb_record.data = (bb_address)start;
    if (bb_in_bss(bb_record.data, size)) {
        bb_record.data = (bb_address)copy;
        bb_record.flags |= BB_FLAG_DATA_COPIED;
    }
}

static struct bb_handover *finish(uint32_t data_size)
{
    const struct bb_range kept[] = {
        {bb_record.data, data_size},
        {bb_record.env_memmap, bb_record.env_memmap_size},
    };

    bb_clear_payload(kept, sizeof kept / sizeof *kept);
    bb_seal(&bb_record);
    return &bb_record;
}

/*
 * Pixels by red, green and blue. Palettes and text modes are not passed on, nor is what the kernel could not reach at
 * its startup path.
 */
static void set_framebuffer(const struct bb_framebuffer *shape)
{
    static struct bb_framebuffer framebuffer;

    if (shape->address > 1ull << 32 || shape->size > (1ull << 32) - shape->address)
        return;
    framebuffer = *shape;
    bb_record.framebuffer = (bb_address)&framebuffer;
}

#endif
