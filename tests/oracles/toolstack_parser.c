/* xl's kernel parser without a hypervisor: FILE as a PVH or as a PV domain, through Debian's libxenguest.
 *
 * Prints the library's own messages, the addresses that it found among them, and at the end `accept` or
 * `refuse`. It stops where a domain's memory would be needed: what comes later is not the parser's.
 */
#include <stdio.h>
#include <string.h>

#include <xenctrl.h>
#include <xenguest.h>
#include <xentoollog.h>

/* What a hypervisor that Debian built would say of itself: no 32-bit PV guests. */
static const char capabilities[] = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

int main(int argc, char **argv)
{
	xentoollog_logger_stdiostream *stream = xtl_createlogger_stdiostream(stdout, XTL_DEBUG, 0);
	xentoollog_logger *log = (xentoollog_logger *)stream;
	xc_interface *handle = xc_interface_open(log, log, XC_OPENFLAG_DUMMY);
	struct xc_dom_image *dom;
	int failed;

	if (argc != 3 || !handle || !(dom = xc_dom_allocate(handle, "", NULL)))
		return 2;
	dom->container_type = strcmp(argv[1], "pvh") ? XC_DOM_PV_CONTAINER : XC_DOM_HVM_CONTAINER;
	failed = xc_dom_kernel_file(dom, argv[2]);
	if (!failed) {
		/* Instead of xc_dom_boot_xen_init, which asks the hypervisor. */
		dom->xen_version = 4 << 16 | 17;
		strcpy(dom->xen_caps, capabilities);
		failed = xc_dom_parse_image(dom);
	}
	puts(failed ? "refuse" : "accept");
	return 0;
}
