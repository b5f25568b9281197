/* SPDX-License-Identifier: 0BSD */
/* What must be so before a kernel's own PV entry: an RSI that does not lead to start_info is nobody's. */
#include "xen.h"

void bb_pv_before(const struct start_info *info)
{
    if (!xen_is_start_info(info))
        xen_shutdown(XEN_SHUTDOWN_CRASH);
}
