/* SPDX-License-Identifier: 0BSD */
/* Memory: where the payload is going to be, and room for everything else outside of that. */
#include "application_state.h"

/* For the yard; the command line; each module and its own; what waits for its move; what the payload takes up. */
#define MAX_ALLOCATIONS (2 + 2 * MAX_MODULES + 2 * MAX_MOVES)
#define LOWEST 0x100000ull /* below lie what firmware and start-up code of other processors use */
#define REACH (1ull << 31) /* of 64-bit code of the small model (psABI), as our stubs are, wherever they lie */

static struct {
    uint64_t address;
    uint64_t pages;
} allocations[MAX_ALLOCATIONS];
static unsigned allocation_count;
static char scratch[MAX_MAP] __attribute__((aligned(8)));
static efi_status map_status; /* of the last map that was asked for */

static uint64_t pages_of(uint64_t size)
{
    return (size + EFI_PAGE - 1) / EFI_PAGE;
}

/* The first range of the payload that [base, base + size) touches, or 0. */
static const struct bb_range *in_target(uint64_t base, uint64_t size)
{
    for (uint32_t i = 0; i < bb_efi_plan.range_count; i++) {
        const struct bb_range *range = bb_efi_plan.ranges + i;

        if (base < range->base + range->size && range->base < base + size)
            return range;
    }
    return 0;
}

int must_move(uint64_t address, uint64_t size)
{
    return address > FOUR_GIB || size > FOUR_GIB - address || (size && in_target(address, size));
}

static int allocate(uint32_t type, uint64_t address, uint64_t pages)
{
    uint64_t where = address;

    if (allocation_count == MAX_ALLOCATIONS)
        return 0;
    if (application.boot->allocate_pages(EFI_ALLOCATE_ADDRESS, type, pages, &where) != EFI_SUCCESS)
        return 0;
    allocations[allocation_count].address = address;
    allocations[allocation_count++].pages = pages;
    return 1;
}

void release(void)
{
    while (allocation_count) {
        allocation_count--;
        application.boot->free_pages(allocations[allocation_count].address, allocations[allocation_count].pages);
    }
}

/* The highest place in one range of free memory, or 0. */
static uint64_t highest(const struct efi_memory *memory, uint64_t size)
{
    uint64_t start = memory->address < LOWEST ? LOWEST : memory->address;
    uint64_t end = memory->address + memory->pages * EFI_PAGE;

    if (end > FOUR_GIB)
        end = FOUR_GIB;
    while (end > start && end - start >= size) {
        const struct bb_range *range = in_target(end - size, size);

        if (!range)
            return end - size;
        end = range->base;
    }
    return 0;
}

efi_status get_map(struct memory_map *map, char *buffer)
{
    map->entries = (const struct efi_memory *)buffer;
    map->size = MAX_MAP;
    map_status = application.boot->get_memory_map(&map->size, (struct efi_memory *)buffer, &map->key, &map->stride,
                                                  &map->version);
    if (map_status == EFI_SUCCESS && map->stride < sizeof *map->entries)
        map_status = EFI_UNSUPPORTED;
    if (map_status == EFI_SUCCESS && map->size / map->stride > BB_MAX_MEMORY)
        map_status = EFI_BUFFER_TOO_SMALL;
    return map_status;
}

efi_status refuse_place(const uint16_t *reason)
{
    if (map_status == EFI_BUFFER_TOO_SMALL)
        reason = u"the firmware's memory map is larger than 64 KiB, or than 1024 entries";
    else if (map_status != EFI_SUCCESS)
        return refuse(u"the firmware does not tell its memory map", map_status);
    return refuse(reason, EFI_OUT_OF_RESOURCES);
}

static const struct efi_memory *next(const struct memory_map *map, const struct efi_memory *memory)
{
    const char *behind = (const char *)memory + map->stride;

    return behind < (const char *)map->entries + map->size ? (const struct efi_memory *)behind : 0;
}

static int is_one_of(uint32_t type, uint32_t types)
{
    return type < 32 && types >> type & 1;
}

/* The highest place in free memory below 4 GiB, or 0. */
static uint64_t highest_of_all(uint64_t size)
{
    const struct efi_memory *memory;
    struct memory_map map;
    uint64_t best = 0;

    if (get_map(&map, scratch) != EFI_SUCCESS)
        return 0;
    for (memory = map.entries; memory; memory = next(&map, memory)) {
        uint64_t found = is_one_of(memory->type, FREE_NOW) ? highest(memory, size) : 0;

        if (found > best)
            best = found;
    }
    return best;
}

uint64_t place(uint64_t size)
{
    uint64_t bytes = pages_of(size ? size : 1) * EFI_PAGE;

    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t best = highest_of_all(bytes);

        if (!best || allocate(EFI_LOADER_DATA, best, bytes / EFI_PAGE))
            return best;
    }
    return 0;
}

/* The end of the memory of `types` that holds `address`, or `address` itself. */
static uint64_t end_of(const struct memory_map *map, uint32_t types, uint64_t address)
{
    const struct efi_memory *memory;

    for (memory = map->entries; memory; memory = next(map, memory))
        if (is_one_of(memory->type, types) && address - memory->address < memory->pages * EFI_PAGE)
            return memory->address + memory->pages * EFI_PAGE;
    return address;
}

/* Whether the payload can be where it is linked. */
static int can_stay(const struct memory_map *map, uint32_t types)
{
    for (uint32_t i = 0; i < bb_efi_plan.range_count; i++) {
        uint64_t at = bb_efi_plan.ranges[i].base, end = at + bb_efi_plan.ranges[i].size, to;

        for (; at < end; at = to) {
            to = end_of(map, types, at);
            if (to == at)
                return 0;
        }
    }
    return 1;
}

/* The lowest place of a multiple of `grain` from `linked`, or the highest, in one range of memory; 0 without. */
static uint64_t fit(const struct efi_memory *memory, uint64_t linked, uint64_t size)
{
    uint64_t grain = bb_efi_plan.grain, rest = linked % grain;
    uint64_t start = memory->address < LOWEST ? LOWEST : memory->address;
    uint64_t end = memory->address + memory->pages * EFI_PAGE;

    start += (rest + grain - start % grain) % grain;
    if (end > REACH)
        end = REACH;
    if (end < start || end - start < size)
        return 0;
    return bb_efi_plan.flags & PLAN_HIGH ? start + (end - size - start) / grain * grain : start;
}

int find_target(const struct memory_map *map, uint32_t types, uint64_t *by)
{
    const struct bb_range *first = bb_efi_plan.ranges, *last = first + bb_efi_plan.range_count - 1;
    uint64_t best = 0, size = last->base + last->size - first->base;
    const struct efi_memory *memory;

    *by = 0;
    if (can_stay(map, types))
        return 1;
    if (!bb_efi_plan.grain)
        return 0;
    for (memory = map->entries; memory; memory = next(map, memory)) {
        uint64_t found = is_one_of(memory->type, FREE_NOW) ? fit(memory, first->base, size) : 0;

        if (found && (!best || (bb_efi_plan.flags & PLAN_HIGH ? found > best : found < best)))
            best = found;
    }
    *by = best - first->base;
    return best != 0;
}

int claim_target(uint64_t *by)
{
    struct memory_map map;

    if (get_map(&map, scratch) != EFI_SUCCESS || !find_target(&map, FREE_NOW, by))
        return 0;
    for (uint32_t i = 0; i < bb_efi_plan.range_count; i++)
        if (!allocate(EFI_LOADER_CODE, bb_efi_plan.ranges[i].base + *by, pages_of(bb_efi_plan.ranges[i].size)))
            return 0;
    return 1;
}
