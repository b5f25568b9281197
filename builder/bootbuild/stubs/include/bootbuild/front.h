/* SPDX-License-Identifier: 0BSD */
/*
 * What fronts share that see physical memory: the record's tables, filled entry by entry, and the kernel's .bss, cleared.
 *
 * One C file of a stub includes it and defines `bb_die`. Everything that the record points to is a copy in
 * the stub's own memory, made before anything outside it is written.
 */
#ifndef BOOTBUILD_FRONT_H
#define BOOTBUILD_FRONT_H

#include <bootbuild/waist.h>

#define BB_MAX_MODULES 32
#define BB_MAX_STRINGS 8192 /* bytes, of all command lines */

static struct bb_handover bb_record;
static struct bb_memory bb_memory_map[BB_MAX_MEMORY];
static struct bb_module bb_modules[BB_MAX_MODULES];
static char bb_strings[BB_MAX_STRINGS];
static unsigned bb_strings_used;

/* Says why on every console that may be there, and stops in the way that the environment reports. */
static void bb_die(const char *reason) __attribute__((noreturn));

/* A pointer, or death: without paging nothing above 4 GiB can be reached, and no more is asked of page tables. */
static void *bb_reach(uint64_t address, uint64_t size, const char *beyond)
{
    if (address > 1ull << 32 || size > (1ull << 32) - address)
        bb_die(beyond);
    return (void *)(bb_address)address;
}

/* A copy of a command line; 0 stays 0 (absent). */
static uint64_t bb_copy_string(uint64_t address)
{
    const char *from = bb_reach(address, 1, "a command line lies above 4 GiB");
    char *to = bb_strings + bb_strings_used;

    if (!address)
        return 0;
    for (;;) {
        if (bb_strings_used == BB_MAX_STRINGS || (uint32_t)(bb_address)from == 0)
            bb_die("the command lines take more than 8192 bytes");
        bb_strings[bb_strings_used++] = *from;
        if (!*from++)
            return (bb_address)to;
    }
}

/* The map is kept sorted by address; entries of no size (QEMU microvm ends with one) mean nothing. */
static void bb_add_memory(uint64_t address, uint64_t size, uint32_t type)
{
    unsigned at = bb_record.memmap_count;

    if (!size)
        return;
    if (at == BB_MAX_MEMORY)
        bb_die("the memory map has more than 1024 entries");
    for (; at && bb_memory_map[at - 1].address > address; at--)
        bb_memory_map[at] = bb_memory_map[at - 1];
    bb_memory_map[at].address = address;
    bb_memory_map[at].size = size;
    bb_memory_map[at].type = type;
    bb_memory_map[at].reserved = 0;
    bb_record.memmap_count++;
    bb_record.memmap = (bb_address)bb_memory_map;
}

static void bb_add_module(uint64_t address, uint64_t size, uint64_t cmdline)
{
    struct bb_module *module = bb_modules + bb_record.module_count;

    if (bb_record.module_count == BB_MAX_MODULES)
        bb_die("there are more than 32 modules");
    module->address = address;
    module->size = size;
    module->cmdline = bb_copy_string(cmdline);
    bb_record.module_count++;
    bb_record.modules = (bb_address)bb_modules;
}

/* Without branches: two runs in which things lie in another order take the same way. */
static inline int bb_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return (a_size != 0) & (b_size != 0) & (a < b + b_size) & (b < a + a_size);
}

/* Whether clearing the kernel's .bss destroys any of it. */
static int bb_in_bss(uint64_t base, uint64_t size)
{
    for (uint32_t i = 0; i < bb_params.zero_count; i++)
        if (bb_overlap(base, size, bb_params.zero[i].base, bb_params.zero[i].size))
            return 1;
    return 0;
}

/* End of something that is in the way of [base, base + size), or 0. */
static uint64_t bb_obstacle(const struct bb_range *kept, unsigned count, uint64_t base, uint64_t size)
{
    const struct bb_memory *memory = bb_memory_map;
    const struct bb_module *module = bb_modules;

    for (uint32_t i = 0; i < bb_record.memmap_count; i++)
        if (memory[i].type != BB_MEMORY_RAM && bb_overlap(base, size, memory[i].address, memory[i].size))
            return memory[i].address + memory[i].size;
    for (uint32_t i = 0; i < bb_record.module_count; i++)
        if (bb_overlap(base, size, module[i].address, module[i].size))
            return module[i].address + module[i].size;
    for (unsigned i = 0; i < count; i++)
        if (bb_overlap(base, size, kept[i].base, kept[i].size))
            return kept[i].base + kept[i].size;
    return 0;
}

/* The lowest free RAM above the stubs (which stand above the kernel) and below 4 GiB. */
static uint64_t bb_find_room(const struct bb_range *kept, unsigned count, uint64_t size)
{
    const struct bb_memory *memory = bb_memory_map;
    uint64_t floor = bb_params.stub_base + bb_params.stub_size;

    for (uint32_t i = 0; i < bb_record.memmap_count; i++) {
        uint64_t end = memory[i].address + memory[i].size;
        uint64_t at = memory[i].address > floor ? memory[i].address : floor;
        uint64_t next;

        if (memory[i].type != BB_MEMORY_RAM)
            continue;
        if (end > 1ull << 32)
            end = 1ull << 32;
        for (at = (at + 4095) & ~4095ull; at < end && size <= end - at; at = (next + 4095) & ~4095ull) {
            next = bb_obstacle(kept, count, at, size);
            if (!next)
                return at;
        }
    }
    bb_die("no free memory to which a module can be moved from the kernel's .bss");
}

/*
 * Clears the kernel's .bss, which its native path expects and not every loader does, after moving the modules that lie
 * in it to free memory. `kept`: what else of the environment's must not be overwritten by them.
 */
static void bb_clear_payload(const struct bb_range *kept, unsigned count)
{
    struct bb_module *module = bb_modules;

    for (uint32_t i = 0; i < bb_record.module_count; i++) {
        const void *from = bb_reach(module[i].address, module[i].size, "a module lies above 4 GiB");
        uint64_t to;

        if (bb_overlap(module[i].address, module[i].size, bb_params.stub_base, bb_params.stub_size))
            bb_die("a module was loaded over the stubs");
        if (!bb_in_bss(module[i].address, module[i].size))
            continue;
        to = bb_find_room(kept, count, module[i].size);
        bb_copy((void *)(bb_address)to, from, (uint32_t)module[i].size);
        module[i].address = to;
    }
    for (uint32_t i = 0; i < bb_params.zero_count; i++)
        bb_clear((void *)(bb_address)bb_params.zero[i].base, (uint32_t)bb_params.zero[i].size);
}

#endif
