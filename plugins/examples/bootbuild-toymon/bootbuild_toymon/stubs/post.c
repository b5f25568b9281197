/* SPDX-License-Identifier: 0BSD */
/* The post stub: what a kernel under toymon can ask for after it has started. One source for both widths. */
#include <bootbuild/waist.h>

#include "toymon.h"

BB_EXPORT uint64_t toymon_post(const struct bb_handover *record, uint32_t operation, void *argument)
{
    const struct bb_post_text *text = argument;
    const uint32_t *reason = argument;

    (void)record;
    switch (operation) {
    case BB_POST_QUERY:
        return (uint64_t)BB_POST_VERSION << 32 | 1 << BB_POST_QUERY | 1 << BB_POST_CONSOLE_WRITE |
               1 << BB_POST_SHUTDOWN;
    case BB_POST_CONSOLE_WRITE:
        if (!text)
            return BB_POST_EINVAL;
        bb_com1_write((const char *)(unsigned long)text->address, (unsigned long)text->size);
        return text->size;
    case BB_POST_SHUTDOWN:
        bb_outb(TOYMON_POWER, reason && *reason);
        bb_stop();
    default:
        return BB_POST_ENOSYS;
    }
}
