/* SPDX-License-Identifier: 0BSD */
/* Memory: where the payload is going to be, and room for everything else outside of that. */
#include "application_state.h"

#define MAX_ALLOCATIONS 80 /* each module, its copy, and what the payload takes up */
#define LOWEST 0x100000ull /* below lie what firmware and start-up code of other processors use */

static struct {
    uint64_t address;
    uint64_t pages;
} allocations[MAX_ALLOCATIONS];
static unsigned allocation_count;
static char scratch[MAX_MAP] __attribute__((aligned(8)));

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

uint64_t place(uint64_t size)
{
    uint64_t map_size = sizeof scratch, best = 0, key, stride;
    uint64_t bytes = pages_of(size ? size : 1) * EFI_PAGE;
    uint32_t version;

    if (application.boot->get_memory_map(&map_size, (struct efi_memory *)scratch, &key, &stride, &version) != EFI_SUCCESS)
        return 0;
    for (uint64_t at = 0; at < map_size; at += stride) {
        const struct efi_memory *memory = (const struct efi_memory *)(scratch + at);
        uint64_t found = memory->type == EFI_CONVENTIONAL ? highest(memory, bytes) : 0;

        if (found > best)
            best = found;
    }
    return best && allocate(EFI_LOADER_DATA, best, bytes / EFI_PAGE) ? best : 0;
}

int claim_target(void)
{
    for (uint32_t i = 0; i < bb_efi_plan.range_count; i++)
        if (!allocate(EFI_LOADER_CODE, bb_efi_plan.ranges[i].base, pages_of(bb_efi_plan.ranges[i].size)))
            return 0;
    return 1;
}

/* Memory that is nobody's once the boot services have ended (UEFI 2.10, table 7.10); loader memory is ours. */
static int usable(uint32_t type)
{
    return type == EFI_CONVENTIONAL || (type >= EFI_LOADER_CODE && type <= EFI_BOOT_SERVICES_DATA);
}

/* The end of the free memory that holds `at`, or `at` itself. */
static uint64_t end_of_free(const struct efi_memory *map, uint64_t size, uint64_t stride, uint64_t at)
{
    for (uint64_t offset = 0; offset < size; offset += stride) {
        const struct efi_memory *memory = (const struct efi_memory *)((const char *)map + offset);

        if (usable(memory->type) && at >= memory->address && at - memory->address < memory->pages * EFI_PAGE)
            return memory->address + memory->pages * EFI_PAGE;
    }
    return at;
}

int target_is_free(const struct efi_memory *map, uint64_t size, uint64_t stride)
{
    for (uint32_t i = 0; i < bb_efi_plan.range_count; i++) {
        uint64_t at = bb_efi_plan.ranges[i].base, end = at + bb_efi_plan.ranges[i].size, next;

        for (; at < end; at = next) {
            next = end_of_free(map, size, stride, at);
            if (next == at)
                return 0;
        }
    }
    return 1;
}
