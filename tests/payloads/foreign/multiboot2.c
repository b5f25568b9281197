/* SPDX-License-Identifier: 0BSD */
/* A Multiboot2 kernel: it walks the information structure, and says what is in it. */
#include "say.h"

struct tag {
    uint32_t type, size;
    uint32_t body[];
};

static void map(const struct tag *tag)
{
    for (uint32_t at = 16; at + tag->body[0] <= tag->size; at += tag->body[0]) {
        const uint64_t *entry = (const uint64_t *)((const char *)tag + at);

        memory(entry[0], entry[1], (uint32_t)entry[2]);
    }
}

void kernel(uint32_t magic, const uint32_t *information)
{
    const struct tag *tag = (const struct tag *)(information + 2);

    if (magic != 0x36d76289 || (uint32_t)information % 8) {
        text("multiboot2 kernel: not started by Multiboot2\n");
        return;
    }
    text("multiboot2 kernel: started\n");
    for (; tag->type; tag = (const struct tag *)((const char *)tag + ((tag->size + 7) & ~7u))) {
        if (tag->type == 1)
            line("cmdline ", (const char *)tag->body);
        else if (tag->type == 3)
            module(tag->body[0], tag->body[1] - tag->body[0], (const char *)(tag->body + 2));
        else if (tag->type == 6)
            map(tag);
        else if (tag->type == 14 || tag->type == 15)
            root_pointer((const char *)tag->body);
        else if (tag->type == 0x4f484242)
            pair(tag->body);
    }
    text("multiboot2 kernel: done\n");
}
