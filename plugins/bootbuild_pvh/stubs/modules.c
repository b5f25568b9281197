/* SPDX-License-Identifier: 0BSD */
/* The kernel's .bss: cleared by us, since a kernel's native path expects it and not every loader does it. */
#include "front.h"

static int overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a_size && b_size && a < b + b_size && b < a + a_size;
}

static int in_bss(uint64_t base, uint64_t size)
{
    for (uint32_t i = 0; i < bb_params.zero_count; i++)
        if (overlap(base, size, bb_params.zero[i].base, bb_params.zero[i].size))
            return 1;
    return 0;
}

/* End of something that is in the way of [base, base + size), or 0. */
static uint64_t obstacle(const struct bb_handover *record, uint64_t base, uint64_t size)
{
    const struct bb_memory *memory = (const struct bb_memory *)(uint32_t)record->memmap;
    const struct bb_module *module = (const struct bb_module *)(uint32_t)record->modules;

    for (uint32_t i = 0; i < record->memmap_count; i++)
        if (memory[i].type != BB_MEMORY_RAM && overlap(base, size, memory[i].address, memory[i].size))
            return memory[i].address + memory[i].size;
    for (uint32_t i = 0; i < record->module_count; i++)
        if (overlap(base, size, module[i].address, module[i].size))
            return module[i].address + module[i].size;
    if (overlap(base, size, record->data, sizeof(struct start_info)))
        return record->data + sizeof(struct start_info);
    if (overlap(base, size, record->env_memmap, record->env_memmap_size))
        return record->env_memmap + record->env_memmap_size;
    return 0;
}

/* The lowest free RAM above the stubs (which stand above the kernel) and below 4 GiB. */
static uint64_t find_room(const struct bb_handover *record, uint64_t size)
{
    const struct bb_memory *memory = (const struct bb_memory *)(uint32_t)record->memmap;
    uint64_t floor = bb_params.stub_base + bb_params.stub_size;

    for (uint32_t i = 0; i < record->memmap_count; i++) {
        uint64_t end = memory[i].address + memory[i].size;
        uint64_t at = memory[i].address > floor ? memory[i].address : floor;
        uint64_t next;

        if (memory[i].type != BB_MEMORY_RAM)
            continue;
        if (end > 1ull << 32)
            end = 1ull << 32;
        for (at = (at + 4095) & ~4095ull; at < end && size <= end - at; at = (next + 4095) & ~4095ull) {
            next = obstacle(record, at, size);
            if (!next)
                return at;
        }
    }
    die("no free memory to which a module can be moved from the kernel's .bss");
}

void clear_payload(struct bb_handover *record)
{
    struct bb_module *module = (struct bb_module *)(uint32_t)record->modules;

    for (uint32_t i = 0; i < record->module_count; i++) {
        const void *from = reach(module[i].address, module[i].size, "a module lies above 4 GiB");
        uint64_t to;

        if (overlap(module[i].address, module[i].size, bb_params.stub_base, bb_params.stub_size))
            die("a module was loaded over the stubs");
        if (!in_bss(module[i].address, module[i].size))
            continue;
        to = find_room(record, module[i].size);
        bb_copy((void *)(uint32_t)to, from, (uint32_t)module[i].size);
        module[i].address = to;
    }
    for (uint32_t i = 0; i < bb_params.zero_count; i++)
        bb_clear((void *)(uint32_t)bb_params.zero[i].base, (uint32_t)bb_params.zero[i].size);
}
