/* SPDX-License-Identifier: 0BSD */
/*
 * The post stub of Xen PV: what a kernel can ask for after it has started. It keeps no state. It needs the
 * record, this code, start_info, the frame table and the console page where they were mapped, and a stack.
 */
#include "console.h"

static uint64_t write_console(const struct start_info *info, const struct bb_post_text *text)
{
    if (!text)
        return BB_POST_EINVAL;
    return xen_console_write(xen_console(info), (const char *)text->address, text->size);
}

static void __attribute__((noreturn)) shut_down(const struct start_info *info, const uint32_t *reason)
{
    xen_console_flush(xen_console(info));
    xen_shutdown(reason && *reason == BB_SHUTDOWN_CRASH ? XEN_SHUTDOWN_CRASH : XEN_SHUTDOWN_POWEROFF);
}

/* The kernel's handlers; what it leaves out stays as it is, which at first means that the domain is ended. */
static uint64_t set_traps(const struct bb_post_traps *traps)
{
    long result = 0;

    if (!traps)
        return BB_POST_EINVAL;
    if (traps->table)
        result = xen_call(XEN_SET_TRAP_TABLE, traps->table, 0, 0);
    if (!result && (traps->event || traps->failsafe || traps->system_call))
        result = xen_call(XEN_SET_CALLBACKS, traps->event, traps->failsafe, traps->system_call);
    return (uint64_t)result;
}

BB_EXPORT uint64_t bb_post(const struct bb_handover *record, uint32_t operation, void *argument)
{
    const struct start_info *info = (const struct start_info *)record->data;

    switch (operation) {
    case BB_POST_QUERY:
        return (uint64_t)BB_POST_VERSION << 32 | 1 << BB_POST_QUERY | 1 << BB_POST_CONSOLE_WRITE |
               1 << BB_POST_SHUTDOWN | 1 << BB_POST_TRAPS;
    case BB_POST_CONSOLE_WRITE:
        return write_console(info, argument);
    case BB_POST_SHUTDOWN:
        shut_down(info, argument);
    case BB_POST_TRAPS:
        return set_traps(argument);
    default:
        return BB_POST_ENOSYS;
    }
}
