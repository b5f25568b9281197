/* SPDX-License-Identifier: 0BSD */
/*
 * The post stub of PVH: what a kernel can ask for after it has started. One source for both widths.
 *
 * It keeps no state. It needs the record, this code and, under Xen, the console page at the addresses at which
 * they were handed over, and a stack.
 */
#include "console.h"

static uint64_t write_console(const struct bb_handover *record, const struct bb_post_text *text)
{
    const char *from;
    unsigned long size;

    if (!text)
        return BB_POST_EINVAL;
    from = (const char *)(unsigned long)text->address;
    size = (unsigned long)text->size;
    if ((unsigned long)from != text->address || size != text->size)
        return BB_POST_EINVAL;
    if (record->hypervisor_type == BB_HYPERVISOR_XEN)
        return xen_console_write(xen_console(), from, size);
    bb_com1_write(from, size);
    return size;
}

/* Off Xen a PVH guest is switched off by ACPI, which is not ours to interpret: it is halted. */
static void __attribute__((noreturn)) shut_down(const struct bb_handover *record, const uint32_t *reason)
{
    int crashed = reason && *reason == BB_SHUTDOWN_CRASH;

    if (record->hypervisor_type == BB_HYPERVISOR_XEN) {
        xen_console_flush(xen_console());
        xen_shutdown(crashed ? XEN_SHUTDOWN_CRASH : XEN_SHUTDOWN_POWEROFF);
    }
    bb_stop();
}

BB_EXPORT uint64_t bb_post(const struct bb_handover *record, uint32_t operation, void *argument)
{
    switch (operation) {
    case BB_POST_QUERY:
        return (uint64_t)BB_POST_VERSION << 32 | 1 << BB_POST_QUERY | 1 << BB_POST_CONSOLE_WRITE |
               1 << BB_POST_SHUTDOWN;
    case BB_POST_CONSOLE_WRITE:
        return write_console(record, argument);
    case BB_POST_SHUTDOWN:
        shut_down(record, argument);
    default:
        return BB_POST_ENOSYS;
    }
}
