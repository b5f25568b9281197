/* SPDX-License-Identifier: 0BSD */
/* From hvm_start_info to the record. Everything is copied before anything is written outside our own memory. */
#include <bootbuild/front.h>

#include "console.h"
#include "start_info.h"

static struct start_info info;
static struct bb_hypervisor hypervisor;

extern uint64_t bb_post(const struct bb_handover *, uint32_t, void *);

static void say(const char *text)
{
    unsigned long size = bb_length(text);

    bb_com1_write(text, size);
    bb_e9_write(text, size);
    if (hypervisor.type == BB_HYPERVISOR_XEN)
        xen_console_write(xen_console(), text, size);
}

static void bb_die(const char *reason)
{
    say("bootbuild: cannot start from PVH: ");
    say(reason);
    say("\n");
    if (hypervisor.type == BB_HYPERVISOR_XEN) {
        xen_console_flush(xen_console());
        xen_shutdown(XEN_SHUTDOWN_CRASH);
    }
    bb_stop();
}

static void copy_map(void)
{
    const struct start_memory *map;

    if (info.memmap_entries > 0x10000)
        bb_die("the memory map has more than 1024 entries");
    bb_record.env_memmap = info.memmap_paddr;
    bb_record.env_memmap_size = (uint64_t)info.memmap_entries * sizeof *map;
    map = bb_reach(bb_record.env_memmap, bb_record.env_memmap_size, "the memory map lies above 4 GiB");
    for (uint32_t i = 0; i < info.memmap_entries; i++)
        bb_add_memory(map[i].addr, map[i].size, map[i].type);
}

/* What a version 0 structure (Xen's for dom0) leaves out has to be asked for. */
static void ask_for_map(void)
{
    static struct __attribute__((packed)) {
        uint64_t addr, size;
        uint32_t type;
    } map[BB_MAX_MEMORY + 1]; /* Xen says how many entries it copied: one more shows that there are too many */
    struct {
        uint32_t nr_entries;
        uint32_t buffer;
    } request = {BB_MAX_MEMORY + 1, (uint32_t)map};

    if (hypervisor.type != BB_HYPERVISOR_XEN)
        bb_die("hvm_start_info has no memory map, and there is no Xen to ask for it");
    if (xen_call(XEN_MEMORY_OP, XENMEM_MEMORY_MAP, (uint32_t)&request, 0))
        bb_die("hvm_start_info has no memory map, and Xen refuses XENMEM_memory_map");
    for (uint32_t i = 0; i < request.nr_entries && i <= BB_MAX_MEMORY; i++)
        bb_add_memory(map[i].addr, map[i].size, map[i].type);
}

static void copy_modules(void)
{
    const struct start_module *list;

    if (info.nr_modules > BB_MAX_MODULES)
        bb_die("there are more than 32 modules");
    if (info.nr_modules && !info.modlist_paddr)
        bb_die("hvm_start_info counts modules, but has no list of them");
    list = bb_reach(info.modlist_paddr, (uint64_t)info.nr_modules * sizeof *list, "the module list lies above 4 GiB");
    for (uint32_t i = 0; i < info.nr_modules; i++)
        bb_add_module(list[i].paddr, list[i].size, list[i].cmdline_paddr);
}

/* What of the environment's own can still be read once the kernel's .bss is cleared. */
static void keep_data(void)
{
    if (bb_in_bss(bb_record.data, sizeof info)) {
        bb_record.data = (uint32_t)&info;
        bb_record.flags |= BB_FLAG_DATA_COPIED;
    }
    if (bb_in_bss(bb_record.env_memmap, bb_record.env_memmap_size))
        bb_record.env_memmap = bb_record.env_memmap_size = 0;
}

struct bb_handover *bb_pvh_main(const struct start_info *start)
{
    struct bb_range kept[2];

    hypervisor = bb_detect_hypervisor();
    if (!start || start->magic != START_MAGIC)
        bb_die("EBX does not point to an hvm_start_info");
    bb_copy(&info, start, start->version ? sizeof info : START_INFO_SIZE_0);

    bb_record.boot_type = BB_BOOT_PVH;
    bb_record.hypervisor_type = hypervisor.type;
    bb_record.hypervisor_leaf = hypervisor.leaf;
    if (info.flags & SIF_INITDOMAIN)
        bb_record.flags |= BB_FLAG_PRIVILEGED;
    bb_record.data = (uint32_t)start;
    bb_record.cmdline = bb_copy_string(info.cmdline_paddr);
    copy_modules();
    if (info.version && info.memmap_paddr && info.memmap_entries)
        copy_map();
    else
        ask_for_map();
    bb_reach(info.rsdp_paddr, 1, "the ACPI root pointer lies above 4 GiB");
    bb_record.rsdp = info.rsdp_paddr;
    bb_record.post_stub = (uint32_t)bb_post;
    keep_data();
    kept[0] = (struct bb_range){bb_record.data, sizeof info};
    kept[1] = (struct bb_range){bb_record.env_memmap, bb_record.env_memmap_size};
    bb_clear_payload(kept, 2);
    bb_seal(&bb_record);
    return &bb_record;
}
