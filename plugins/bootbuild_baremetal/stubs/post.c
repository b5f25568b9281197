/* SPDX-License-Identifier: 0BSD */
/* The post stub of bare metal: a console on COM1, and a halt. One source for both widths; it keeps no state. */
#include <bootbuild/waist.h>

static uint64_t write_console(const struct bb_post_text *text)
{
    const char *from;
    unsigned long size;

    if (!text)
        return BB_POST_EINVAL;
    from = (const char *)(unsigned long)text->address;
    size = (unsigned long)text->size;
    if ((unsigned long)from != text->address || size != text->size)
        return BB_POST_EINVAL;
    bb_com1_write(from, size);
    return size;
}

BB_EXPORT uint64_t bb_post(const struct bb_handover *record, uint32_t operation, void *argument)
{
    (void)record;
    switch (operation) {
    case BB_POST_QUERY:
        return (uint64_t)BB_POST_VERSION << 32 | 1 << BB_POST_QUERY | 1 << BB_POST_CONSOLE_WRITE |
               1 << BB_POST_SHUTDOWN;
    case BB_POST_CONSOLE_WRITE:
        return write_console(argument);
    case BB_POST_SHUTDOWN:
        bb_stop(); /* power is ACPI's, which the kernel knows and we do not */
    default:
        return BB_POST_ENOSYS;
    }
}
