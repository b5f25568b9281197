/* SPDX-License-Identifier: 0BSD */
/* From hvm_start_info to the record. Everything is copied before anything is written outside our own memory. */
#include "front.h"

#include "console.h"

static struct bb_handover record;
static struct bb_memory memory[BB_MAX_MEMORY];
static struct bb_module modules[MAX_MODULES];
static struct start_info info;
static char strings[MAX_STRINGS];
static unsigned strings_used;
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

void die(const char *reason)
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

void *reach(uint64_t address, uint64_t size, const char *beyond)
{
    if (address > 1ull << 32 || size > (1ull << 32) - address)
        die(beyond);
    return (void *)(uint32_t)address;
}

/* A copy of a command line among our strings; 0 stays 0 (absent). */
static uint64_t copy_string(uint64_t address)
{
    const char *from = reach(address, 1, "a command line lies above 4 GiB");
    char *to = strings + strings_used;

    if (!address)
        return 0;
    for (;;) {
        if (strings_used == MAX_STRINGS || (uint32_t)from == 0)
            die("the command lines take more than 8192 bytes");
        strings[strings_used++] = *from;
        if (!*from++)
            return (uint32_t)to;
    }
}

/* The map is kept sorted by address; entries of no size (QEMU microvm ends with one) mean nothing. */
static void add_memory(uint64_t address, uint64_t size, uint32_t type)
{
    unsigned at = record.memmap_count;

    if (!size)
        return;
    if (at == BB_MAX_MEMORY)
        die("the memory map has more than 1024 entries");
    for (; at && memory[at - 1].address > address; at--)
        memory[at] = memory[at - 1];
    memory[at].address = address;
    memory[at].size = size;
    memory[at].type = type;
    memory[at].reserved = 0;
    record.memmap_count++;
}

static void copy_map(void)
{
    const struct start_memory *map;

    if (info.memmap_entries > 0x10000)
        die("the memory map has more than 1024 entries");
    record.env_memmap = info.memmap_paddr;
    record.env_memmap_size = (uint64_t)info.memmap_entries * sizeof *map;
    map = reach(record.env_memmap, record.env_memmap_size, "the memory map lies above 4 GiB");
    for (uint32_t i = 0; i < info.memmap_entries; i++)
        add_memory(map[i].addr, map[i].size, map[i].type);
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
        die("hvm_start_info has no memory map, and there is no Xen to ask for it");
    if (xen_call(XEN_MEMORY_OP, XENMEM_MEMORY_MAP, (uint32_t)&request, 0))
        die("hvm_start_info has no memory map, and Xen refuses XENMEM_memory_map");
    for (uint32_t i = 0; i < request.nr_entries && i <= BB_MAX_MEMORY; i++)
        add_memory(map[i].addr, map[i].size, map[i].type);
}

static void copy_modules(void)
{
    const struct start_module *list;

    if (info.nr_modules > MAX_MODULES)
        die("there are more than 32 modules");
    if (info.nr_modules && !info.modlist_paddr)
        die("hvm_start_info counts modules, but has no list of them");
    list = reach(info.modlist_paddr, (uint64_t)info.nr_modules * sizeof *list, "the module list lies above 4 GiB");
    for (uint32_t i = 0; i < info.nr_modules; i++) {
        modules[i].address = list[i].paddr;
        modules[i].size = list[i].size;
        modules[i].cmdline = copy_string(list[i].cmdline_paddr);
    }
    record.module_count = info.nr_modules;
}

/* What of the environment's own can still be read once the kernel's .bss is cleared. */
static void keep_data(void)
{
    for (uint32_t i = 0; i < bb_params.zero_count; i++) {
        uint64_t base = bb_params.zero[i].base;
        uint64_t end = base + bb_params.zero[i].size;

        if (record.data < end && base < record.data + sizeof info) {
            record.data = (uint32_t)&info;
            record.flags |= BB_FLAG_DATA_COPIED;
        }
        if (record.env_memmap < end && base < record.env_memmap + record.env_memmap_size)
            record.env_memmap = record.env_memmap_size = 0;
    }
}

struct bb_handover *bb_pvh_main(const struct start_info *start)
{
    hypervisor = bb_detect_hypervisor();
    if (!start || start->magic != START_MAGIC)
        die("EBX does not point to an hvm_start_info");
    bb_copy(&info, start, start->version ? sizeof info : START_INFO_SIZE_0);

    record.boot_type = BB_BOOT_PVH;
    record.hypervisor_type = hypervisor.type;
    record.hypervisor_leaf = hypervisor.leaf;
    if (info.flags & SIF_INITDOMAIN)
        record.flags |= BB_FLAG_PRIVILEGED;
    record.data = (uint32_t)start;
    record.cmdline = copy_string(info.cmdline_paddr);
    copy_modules();
    if (info.version && info.memmap_paddr && info.memmap_entries)
        copy_map();
    else
        ask_for_map();
    record.modules = record.module_count ? (uint32_t)modules : 0;
    record.memmap = record.memmap_count ? (uint32_t)memory : 0;
    reach(info.rsdp_paddr, 1, "the ACPI root pointer lies above 4 GiB");
    record.rsdp = info.rsdp_paddr;
    record.post_stub = (uint32_t)bb_post;
    keep_data();
    clear_payload(&record);
    bb_seal(&record);
    return &record;
}
