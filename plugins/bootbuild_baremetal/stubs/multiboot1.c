/* SPDX-License-Identifier: 0BSD */
/* From the Multiboot information to the record: Multiboot 0.6.96 §3.3. */
#include "multiboot.h"
#include "rsdp.h"

#define MAGIC 0x2badb002

/* Which fields hold something. */
#define HAS_MEMORY 0x1
#define HAS_CMDLINE 0x4
#define HAS_MODULES 0x8
#define HAS_AOUT 0x10
#define HAS_ELF 0x20
#define HAS_MAP 0x40
#define HAS_FRAMEBUFFER 0x1000
#define KNOWN 0x1fff

struct information {
    uint32_t flags;
    uint32_t mem_lower, mem_upper; /* KiB from 0, KiB from 1 MiB */
    uint32_t boot_device;
    uint32_t cmdline;
    uint32_t mods_count, mods_addr;
    uint32_t syms[4];
    uint32_t mmap_length, mmap_addr;
    uint32_t drives[2], config_table, boot_loader_name, apm_table, vbe[4];
    /* From 0.6.96 on; QEMU's ends here. */
    uint64_t framebuffer_addr;
    uint32_t framebuffer_pitch, framebuffer_width, framebuffer_height;
    uint8_t framebuffer_bpp, framebuffer_type;
    uint8_t red_position, red_size, green_position, green_size, blue_position, blue_size;
} __attribute__((packed));

#define SIZE_WITHOUT_FRAMEBUFFER 88
_Static_assert(__builtin_offsetof(struct information, framebuffer_addr) == SIZE_WITHOUT_FRAMEBUFFER, "VBE");
_Static_assert(sizeof(struct information) == 116, "framebuffer");

struct module {
    uint32_t start, end, cmdline, reserved;
};

struct map_entry {
    uint32_t rest; /* bytes of the entry behind this word */
    uint64_t address, size;
    uint32_t type;
} __attribute__((packed));

static struct information copy;

static void take_map(void)
{
    uint32_t at = 0;

    bb_record.env_memmap = copy.mmap_addr;
    bb_record.env_memmap_size = copy.mmap_length;
    bb_reach(copy.mmap_addr, copy.mmap_length, "the memory map wraps at 4 GiB");
    while (at < copy.mmap_length) {
        const struct map_entry *entry = (const struct map_entry *)(copy.mmap_addr + at);

        if (copy.mmap_length - at < sizeof *entry || entry->rest < sizeof *entry - 4 ||
            entry->rest > copy.mmap_length - at - 4)
            bb_die("an entry of the memory map has an impossible size");
        bb_add_memory(entry->address, entry->size, entry->type);
        at += 4 + entry->rest;
    }
    if (bb_in_bss(bb_record.env_memmap, bb_record.env_memmap_size))
        bb_record.env_memmap = bb_record.env_memmap_size = 0;
}

static void take_modules(void)
{
    const struct module *list = (const struct module *)copy.mods_addr;

    if (copy.mods_count > BB_MAX_MODULES)
        bb_die("there are more than 32 modules");
    bb_reach(copy.mods_addr, copy.mods_count * sizeof *list, "the module list wraps at 4 GiB");
    for (uint32_t i = 0; i < copy.mods_count; i++) {
        if (list[i].end < list[i].start)
            bb_die("a module ends before it begins");
        bb_add_module(list[i].start, list[i].end - list[i].start, list[i].cmdline);
    }
}

static void take_framebuffer(void)
{
    struct bb_framebuffer shape = {0};

    if (copy.framebuffer_type != FRAMEBUFFER_RGB)
        return;
    shape.address = copy.framebuffer_addr;
    shape.size = (uint64_t)copy.framebuffer_pitch * copy.framebuffer_height;
    shape.width = copy.framebuffer_width;
    shape.height = copy.framebuffer_height;
    shape.pitch = copy.framebuffer_pitch;
    shape.bits_per_pixel = copy.framebuffer_bpp;
    bb_copy(&shape.red_position, &copy.red_position, 6);
    set_framebuffer(&shape);
}

/* EAX alone proves nothing (qboot leaves this magic there for PVH): the flags that EBX leads to must make sense. */
static void check(uint32_t magic, const struct information *start)
{
    if (magic != MAGIC || !start)
        bb_die("EAX and EBX are not those of Multiboot");
    bb_reach((uint32_t)start, sizeof copy, "the information wraps at 4 GiB");
    if (start->flags & ~KNOWN || (start->flags & (HAS_AOUT | HAS_ELF)) == (HAS_AOUT | HAS_ELF))
        bb_die("EBX does not point to a Multiboot information");
    bb_copy(&copy, start, start->flags & HAS_FRAMEBUFFER ? sizeof copy : SIZE_WITHOUT_FRAMEBUFFER);
}

struct bb_handover *bb_multiboot_main(uint32_t magic, const struct information *start)
{
    check(magic, start);
    begin(BB_BOOT_MULTIBOOT1);
    keep_data(start, sizeof copy, &copy);
    if (copy.flags & HAS_CMDLINE)
        bb_record.cmdline = bb_copy_string(copy.cmdline);
    if (copy.flags & HAS_MODULES)
        take_modules();
    if (copy.flags & HAS_MAP) {
        take_map();
    } else if (copy.flags & HAS_MEMORY) {
        bb_add_memory(0, (uint64_t)copy.mem_lower << 10, BB_MEMORY_RAM);
        bb_add_memory(0x100000, (uint64_t)copy.mem_upper << 10, BB_MEMORY_RAM);
    }
    if (!bb_record.memmap_count)
        bb_die("the information has no memory map");
    if (copy.flags & HAS_FRAMEBUFFER)
        take_framebuffer();
    bb_record.rsdp = search_rsdp();
    return finish(sizeof copy);
}
