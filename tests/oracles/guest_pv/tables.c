// SPDX-License-Identifier: 0BSD
// Tables that lead to tables of their own level, and other updates of page tables: what Xen answers.
#include "dump.h"

#define TABLE 0x67     // present, writable, user, accessed, dirty
#define READ_ONLY 0x65 // the same without writable
#define WRITABLE 0x63
#define CACHE_OFF 0x10
#define LARGE 0x80
#define FRAME 0xffffffffff000ull
#define SLOT 300ull // of the root: none that Xen or the builder uses
#define SELF 0x7ff0 // DOMID_SELF
#define NOWHERE 0xffffff0000ull // a machine frame that no machine has

static const struct start_info *info;
static u64 pool[6][512] __attribute__((aligned(PAGE)));

static u64 machine(const void *page)
{
    return ((const u64 *)info->mfn_list)[((u64)page - BASE) / PAGE] * PAGE;
}

static long update(const void *table, u64 slot, u64 value)
{
    u64 request[2] = {machine(table) + 8 * slot, value};

    return call4(1, (u64)request, 1, 0, SELF);
}

static long extended(u32 command, const void *table)
{
    struct {
        u32 command, pad;
        u64 one, two;
    } request = {command, 0, machine(table) / PAGE, 0};

    return call4(26, (u64)&request, 1, 0, SELF);
}

static long pin(int level, const void *table)
{
    return extended(level - 1, table);
}

static long unpin(const void *table)
{
    return extended(4, table);
}

static long map(const void *page, u64 bits)
{
    return call(14, (u64)page, machine(page) | bits, 2); // update_va_mapping, UVMF_INVLPG
}

static void root_to_itself(const u64 *root)
{
    u64 at = 0xffff000000000000ull | SLOT << 39;
    const u64 *tables = (const u64 *)at;                                // every table of level 1
    const u64 *second = (const u64 *)(at | SLOT << 30);                 // and of level 2
    const u64 *seen = (const u64 *)(at | SLOT << 30 | SLOT << 21 | SLOT << 12); // the root
    u64 page = (u64)pool >> 12 & 0xfffffffff;

    begin("self4");
    field("writable", update(root, SLOT, machine(root) | TABLE));
    field("readonly", update(root, SLOT, machine(root) | READ_ONLY));
    field("seen", seen[SLOT] == root[SLOT] && seen[511] == root[511]);
    field("entry", (tables[page] & FRAME) == machine(pool));
    // what maps a table of level 1 is no entry of level 1, and is not changed as one
    field("mapping", call(14, (u64)(tables + page) & -PAGE, second[page / 512], 2));
    field("slot_made_writable", update(root, SLOT, root[SLOT] | 2));
    field("gone", update(root, SLOT, 0));
}

static void others(const u64 *root)
{
    const u64 *one = pool[0], *two = pool[1];

    begin("others4");
    field("one_readonly", map(one, READ_ONLY));
    field("two_readonly", map(two, READ_ONLY));
    field("one_pinned", pin(4, one));
    field("two_pinned", pin(4, two));
    field("root_to_one", update(root, SLOT, machine(one) | READ_ONLY));
    field("root_to_one_writable", update(root, SLOT + 1, machine(one) | TABLE));
    field("one_to_root", update(one, SLOT, machine(root) | READ_ONLY));
    field("one_to_two", update(one, SLOT, machine(two) | READ_ONLY));
    field("one_to_one", update(one, SLOT, machine(one) | READ_ONLY));
    field("two_to_one", update(two, 5, machine(one) | READ_ONLY));
    field("two_to_root", update(two, 6, machine(root) | READ_ONLY));
    field("one_unpinned", unpin(one));
    field("one_in_use", map(one, WRITABLE));
    field("root_gone", update(root, SLOT, 0));
    field("one_still_in_use", map(one, WRITABLE));
    field("two_unpinned", unpin(two));
    field("two_free", map(two, WRITABLE));
    field("one_pinned_again", pin(4, one)); // nothing leads to it, or is led to by two, any more
    field("one_to_root_now", update(one, SLOT, machine(root) | READ_ONLY));
    field("root_to_root", update(root, SLOT, machine(root) | READ_ONLY));
    field("root_to_root_gone", update(root, SLOT, 0));
    field("one_unpinned_again", unpin(one));
    field("one_free", map(one, WRITABLE));
    pool[0][5] = pool[1][5] = pool[1][6] = pool[0][SLOT] = 0;
}

static void lower(const char *name, int level)
{
    u64 *table = pool[2];

    begin(name);
    table[7] = machine(table) | TABLE;
    field("readonly", map(table, READ_ONLY));
    field("pinned_writable", pin(level, table));
    field("back", map(table, WRITABLE));
    table[7] = machine(table) | READ_ONLY;
    field("readonly_again", map(table, READ_ONLY));
    field("pinned", pin(level, table));
    field("entry", table[7] == (machine(table) | READ_ONLY));
    field("level_too_low", update(table, 8, machine((const void *)info->pt_base) | READ_ONLY));
    field("unpinned", unpin(table));
    field("free", map(table, WRITABLE));
    table[7] = 0;
}

// A frame of the machine's memory that is not this domain's.
static u64 others_frame(void)
{
    const u64 *machine_to_physical = (const u64 *)0xffff800000000000;
    const u64 *list = (const u64 *)info->mfn_list;
    u64 frame = 0x1100;

    while (machine_to_physical[frame] < info->nr_pages && list[machine_to_physical[frame]] == frame)
        frame++;
    return frame;
}

static void wrong(const u64 *root)
{
    u64 *table = pool[3];

    begin("refused");
    field("frame_of_nobody", call(14, (u64)pool[4], NOWHERE << 12 | WRITABLE, 2));
    field("frame_of_others", call(14, (u64)pool[4], others_frame() * PAGE | WRITABLE, 2));
    field("root_writable", call(14, (u64)pool[4], machine(root) | WRITABLE, 2));
    field("not_covered", call(14, 0x123456789000, machine(pool[4]) | WRITABLE, 2));
    field("pool_writable_as_table", pin(1, pool[4]));
    field("readonly", map(table, READ_ONLY));
    field("pinned", pin(2, table));
    field("superpage", update(table, 0, machine(pool[4]) | TABLE | LARGE));
    field("cache_off", update(table, 0, machine(pool[4]) | TABLE | CACHE_OFF));
    field("table_of_nobody", update(table, 0, NOWHERE << 12 | TABLE));
    field("writable_page", update(table, 0, machine(pool[4]) | TABLE));
    field("root_as_l1", update(table, 0, machine(root) | READ_ONLY));
    field("xens_slot", update(root, 256, 0));
    field("pinned_twice", pin(2, table));
    field("pinned_otherwise", pin(3, table));
    field("unpinned", unpin(table));
    field("unpinned_twice", unpin(table));
    field("free", map(table, WRITABLE));
}

void tables_refused(const struct start_info *handed)
{
    const u64 *root;

    info = handed;
    root = (const u64 *)info->pt_base;
    root_to_itself(root);
    others(root);
    lower("self2", 2);
    lower("self3", 3);
    wrong(root);
}
