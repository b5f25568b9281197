/* SPDX-License-Identifier: 0BSD */
/* From the record to Linux's boot_params. One source for both widths. */
#include <bootbuild/boot_params.h>
#include <bootbuild/waist.h>

#define ISA_HOLE 0xa0000 /* video memory and option ROMs of a PC, up to 1 MiB */
#define ISA_HOLE_END 0x100000

static struct boot_params params __attribute__((aligned(4096)));
static struct bb_setup_data pair;
static struct {
    struct bb_setup_header header;
    struct e820_entry table[BB_MAX_MEMORY + 1 - E820_ROOM];
} more __attribute__((aligned(8)));
static unsigned entries;

static void __attribute__((noreturn)) die(const char *reason)
{
    bb_give_up("Linux", reason);
}

static void add_entry(uint64_t address, uint64_t size, uint32_t type)
{
    struct e820_entry *entry =
        entries < E820_ROOM ? &params.e820_table[entries] : &more.table[entries - E820_ROOM];

    entry->address = address;
    entry->size = size;
    entry->type = type;
    entries++;
}

/*
 * A PC's memory has a hole below 1 MiB that a hypervisor's map need not mention: Linux's own PVH entry reserves it as
 * well (arch/x86/platform/pvh/enlighten.c), so that nobody puts RAM or a device there.
 */
static int needs_isa_hole(const struct bb_memory *memory, uint32_t count)
{
    uint64_t open = ISA_HOLE; /* up to here it is taken, by what is not RAM */

    for (uint32_t i = 0; i < count; i++)
        if (memory[i].type != BB_MEMORY_RAM && memory[i].address <= open &&
            memory[i].size > open - memory[i].address)
            open = memory[i].address + memory[i].size;
    return open < ISA_HOLE_END;
}

static void fill_e820(const struct bb_handover *record)
{
    const struct bb_memory *memory = (const struct bb_memory *)(unsigned long)record->memmap;

    for (uint32_t i = 0; i < record->memmap_count; i++)
        add_entry(memory[i].address, memory[i].size, memory[i].type);
    if (needs_isa_hole(memory, record->memmap_count))
        add_entry(ISA_HOLE, ISA_HOLE_END - ISA_HOLE, BB_MEMORY_RESERVED);
    params.e820_entries = (uint8_t)(entries < E820_ROOM ? entries : E820_ROOM);
}

static void fill_ramdisk(const struct bb_handover *record)
{
    const struct bb_module *module = (const struct bb_module *)(unsigned long)record->modules;

    if (!record->module_count)
        return;
    if (record->module_count > 1)
        die("it takes one ramdisk, and more modules were given");
    params.ramdisk_image = (uint32_t)module->address;
    params.ext_ramdisk_image = (uint32_t)(module->address >> 32);
    params.ramdisk_size = (uint32_t)module->size;
    params.ext_ramdisk_size = (uint32_t)(module->size >> 32);
}

static void fill_cmdline(const struct bb_handover *record)
{
    static const char none[1];
    const char *cmdline = record->cmdline ? (const char *)(unsigned long)record->cmdline : none;

    if (bb_length(cmdline) > COMMAND_LINE_MAX)
        die("its command line has more than 2047 bytes");
    params.cmd_line_ptr = (uint32_t)(unsigned long)cmdline;
}

/*
 * The record for whoever looks for it in Linux, which reserves the memory of each node. It does not reserve our stubs:
 * what lies there is left out, and boot_params says it.
 */
static void fill_setup_data(const struct bb_handover *record)
{
    pair.header.type = BB_SETUP_DATA_TYPE;
    pair.header.len = sizeof pair.record;
    bb_copy_unkept(&pair.record, record);
    params.setup_data = (unsigned long)&pair;
    if (entries > E820_ROOM) {
        more.header.type = SETUP_E820_EXT;
        more.header.len = (entries - E820_ROOM) * (uint32_t)sizeof *more.table;
        pair.header.next = (unsigned long)&more;
    }
}

struct boot_params *bb_boot_params(const struct bb_handover *record)
{
    params.boot_flag = BOOT_FLAG;
    params.header = HEADER_MAGIC;
    params.version = PROTOCOL;
    params.type_of_loader = LOADER_UNDEFINED;
    params.loadflags = LOADED_HIGH;
    params.acpi_rsdp_addr = record->rsdp;
    fill_cmdline(record);
    fill_ramdisk(record);
    fill_e820(record);
    fill_setup_data(record);
    return &params;
}
