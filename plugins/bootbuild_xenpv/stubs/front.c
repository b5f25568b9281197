/* SPDX-License-Identifier: 0BSD */
/*
 * From start_info to the record. Every address in it is virtual, in the bootstrap region that Xen mapped; the
 * memory map alone counts the domain's own frames.
 */
#include "console.h"
#include "map.h"

static struct bb_handover record;
static struct bb_memory memory[BB_MAX_MEMORY];
static struct bb_module module;
static char cmdline[XEN_CMDLINE];

extern uint64_t bb_post(const struct bb_handover *, uint32_t, void *) __attribute__((visibility("hidden")));

static void __attribute__((noreturn)) die(const struct start_info *info, const char *reason)
{
    static const char start[] = "bootbuild: cannot start from Xen PV: ";
    struct xen_console console = xen_console(info);

    xen_console_write(console, start, sizeof start - 1);
    xen_console_write(console, reason, bb_length(reason));
    xen_console_write(console, "\n", 1);
    xen_console_flush(console);
    xen_shutdown(XEN_SHUTDOWN_CRASH);
}

/* The map is kept sorted by address; entries of no size mean nothing. */
static void add_memory(const struct start_info *info, uint64_t address, uint64_t size, uint32_t type)
{
    unsigned at = record.memmap_count;

    if (!size)
        return;
    if (at == BB_MAX_MEMORY)
        die(info, "the memory map has more than 1024 entries");
    for (; at && memory[at - 1].address > address; at--)
        memory[at] = memory[at - 1];
    memory[at].address = address;
    memory[at].size = size;
    memory[at].type = type;
    memory[at].reserved = 0;
    record.memmap_count++;
}

/* A domU asks for its map; dom0 has none, and is made of nr_pages from 0 on. */
static void make_map(const struct start_info *info)
{
    static struct __attribute__((packed)) {
        uint64_t addr, size;
        uint32_t type;
    } map[BB_MAX_MEMORY + 1]; /* Xen says how many entries it copied: one more shows that there are too many */
    struct {
        uint32_t nr_entries, pad;
        uint64_t buffer;
    } request = {BB_MAX_MEMORY + 1, 0, (uint64_t)map};

    if (xen_call(XEN_MEMORY_OP, XENMEM_MEMORY_MAP, (uint64_t)&request, 0)) {
        add_memory(info, 0, info->nr_pages * XEN_PAGE, BB_MEMORY_RAM);
        return;
    }
    for (uint32_t i = 0; i < request.nr_entries && i <= BB_MAX_MEMORY; i++)
        add_memory(info, map[i].addr, map[i].size, map[i].type);
}

/* CPUID itself may be the processor's: the prefix makes it Xen's (XEN_CPUID, arch-x86/xen.h). */
static uint32_t xen_leaf(void)
{
    for (uint32_t leaf = 0x40000000; leaf < 0x40010000; leaf += 0x100) {
        struct bb_cpuid id;

        __asm__ volatile(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; cpuid"
                         : "=a"(id.eax), "=b"(id.ebx), "=c"(id.ecx), "=d"(id.edx)
                         : "a"(leaf), "c"(0));
        if (bb_hypervisor_of(id) == BB_HYPERVISOR_XEN)
            return leaf;
    }
    return 0;
}

static void seal(uint64_t base)
{
    uint64_t physical;

    bb_seal(&record);
    physical = record.stub_base;
    record.stub_base = physical + base;
    record.checksum += (uint32_t)physical - (uint32_t)record.stub_base;
    record.checksum += (uint32_t)(physical >> 32) - (uint32_t)(record.stub_base >> 32);
}

struct bb_handover *bb_pv_main(const struct start_info *info)
{
    if (!xen_is_start_info(info))
        xen_shutdown(XEN_SHUTDOWN_CRASH); /* nothing tells where a console is */
    record.boot_type = BB_BOOT_XEN_PV;
    record.hypervisor_type = BB_HYPERVISOR_XEN;
    record.hypervisor_leaf = xen_leaf();
    if (info->flags & SIF_INITDOMAIN)
        record.flags |= BB_FLAG_PRIVILEGED;
    record.data = (uint64_t)info;
    bb_copy(cmdline, info->cmd_line, sizeof cmdline - 1);
    record.cmdline = cmdline[0] ? (uint64_t)cmdline : 0;
    if (info->mod_len) {
        module.address = info->mod_start;
        if (info->flags & SIF_MOD_START_PFN) {
            const char *reason = map_frames(info, info->mod_start, info->mod_len);

            if (reason)
                die(info, reason);
            module.address = xen_virtual(info->mod_start);
        }
        module.size = info->mod_len;
        record.modules = (uint64_t)&module;
        record.module_count = 1;
    }
    make_map(info);
    record.memmap = record.memmap_count ? (uint64_t)memory : 0;
    record.post_stub = (uint64_t)bb_post;
    seal(xen_distance());
    return &record;
}
