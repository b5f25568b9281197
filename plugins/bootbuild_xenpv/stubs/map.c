/* SPDX-License-Identifier: 0BSD */
/*
 * Page tables of a PV guest are read as they are, and changed by hypercalls: entries are machine addresses, and
 * a table must be read-only wherever it is mapped before Xen takes it for one.
 */
#include "map.h"

#define PRESENT 1
#define WRITE 2
#define USER 4 /* ring 3 is where the kernel runs, too */
#define ACCESSED 0x20
#define DIRTY 0x40
#define LEAF (PRESENT | WRITE | USER | ACCESSED | DIRTY)
#define TABLE LEAF
#define READ_ONLY (PRESENT | USER | ACCESSED)
#define FRAME_BITS 0xffffffffff000 /* of an entry */
#define TABLE_SPAN 0x200000        /* bytes that a table of level 1 maps */

static uint64_t machine(const struct start_info *info, uint64_t frame)
{
    return ((const uint64_t *)info->mfn_list)[frame] * XEN_PAGE;
}

static unsigned slot(uint64_t address, unsigned level)
{
    return address >> (3 + 9 * level) & 511;
}

/* Machine address of the entry of level 2 for an address, and what it is; 0 where a table above is missing. */
static uint64_t entry_above(const struct start_info *info, uint64_t address, uint64_t *entry)
{
    const uint64_t *table = (const uint64_t *)info->pt_base;
    uint64_t at = 0;

    for (unsigned level = 4; level >= 2; level--) {
        if (level < 4) {
            if (!(*entry & PRESENT))
                return 0;
            at = *entry & FRAME_BITS;
            table = (const uint64_t *)xen_virtual(XEN_MACH2PHYS[at / XEN_PAGE]);
        }
        *entry = table[slot(address, level)];
    }
    return at + 8 * slot(address, 2);
}

/* Hands a full table to Xen for the 2 MiB at an address. */
static long hang(const struct start_info *info, uint64_t table, uint64_t above)
{
    uint64_t at = machine(info, (table - xen_virtual(0)) / XEN_PAGE);
    uint64_t request[2] = {above, at | TABLE};
    long failed = xen_call(XEN_UPDATE_VA_MAPPING, table, at | READ_ONLY, XEN_UVMF_INVLPG);

    return failed ? failed : xen_call4(XEN_MMU_UPDATE, (unsigned long)request, 1, 0, XEN_DOMID_SELF);
}

const char *map_frames(const struct start_info *info, uint64_t frame, uint64_t size)
{
    uint64_t end = frame + (size + XEN_PAGE - 1) / XEN_PAGE;
    uint64_t used = 0;

    if (end > info->nr_pages || end < frame)
        return "the module lies outside the domain's memory";
    while (frame < end) {
        uint64_t address = xen_virtual(frame), entry;
        uint64_t next = frame + (TABLE_SPAN - address % TABLE_SPAN) / XEN_PAGE;
        uint64_t above = entry_above(info, address, &entry);
        uint64_t *table = 0;

        if (!above)
            return "the module lies in another GiB of addresses than all that Xen mapped";
        if (next > end)
            next = end;
        if (!(entry & PRESENT)) {
            if (used == bb_pv_settings.tables)
                return "the module is larger than that for which the stub has page tables";
            table = bb_pv_tables[used++];
        }
        for (; frame < next; frame++, address += XEN_PAGE) {
            uint64_t leaf = machine(info, frame) | LEAF;

            if (table)
                table[slot(address, 1)] = leaf;
            else if (xen_call(XEN_UPDATE_VA_MAPPING, address, leaf, XEN_UVMF_INVLPG))
                return "Xen does not map the module";
        }
        if (table && hang(info, (uint64_t)table, above))
            return "Xen does not take the stub's page table for the module";
    }
    return 0;
}
