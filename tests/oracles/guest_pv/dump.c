// SPDX-License-Identifier: 0BSD
// Says, line by line on the domain's console, how Xen entered a PV guest and what it handed over. With CALLS,
// what it answers to hypercalls.
//
// What differs from machine to machine is left out: of machine frames only the domain's own number for them is
// said. Layouts: xen/include/public/xen.h, arch-x86/xen-x86_64.h, io/console.h.

#include "dump.h"

#ifndef CALLS
#define CALLS 0 // whether the guest makes hypercalls instead
#endif

#define M2P ((const u64 *)0xffff800000000000)

extern u64 registers[];
extern u8 gdtr[];

struct ring {
    char in[1024], out[2048];
    u32 in_cons, in_prod, out_cons, out_prod;
};

static const struct start_info *info;
static volatile struct ring *ring;
static u8 shared[PAGE] __attribute__((aligned(PAGE)));

static void notify(void)
{
    u32 port = info->console_evtchn;

    call(32, 4, (u64)&port, 0); // EVTCHNOP_send
}

static void put(char c)
{
    static char line[128];
    static int used;

    line[used++] = c;
    if (c != '\n' && used < 120)
        return;
    if (!ring)
        call(18, 0, used, (u64)line); // CONSOLEIO_write
    for (int i = 0; ring && i < used; i++) {
        while (ring->out_prod - ring->out_cons >= sizeof ring->out) {
            notify();
            call(29, 0, 0, 0); // SCHEDOP_yield
        }
        ring->out[ring->out_prod % sizeof ring->out] = line[i];
        __asm__ volatile("" : : : "memory");
        ring->out_prod++;
    }
    used = 0;
}

#define WORDS // the other parts say things too
#include "../guest/words.h"

// The domain's own number of the frame that a table entry leads to.
static u64 own(u64 entry)
{
    return M2P[(entry & 0xffffffffff000) / PAGE];
}

static void entry(const char *name, u64 address)
{
    const u64 *table = (const u64 *)info->pt_base;

    for (int shift = 39; shift > 12; shift -= 9) {
        u64 value = table[address >> shift & 511];

        if (!(value & 1)) {
            field(name, value);
            return;
        }
        if (own(value) >= (info->pt_base - BASE) / PAGE + info->nr_pt_frames)
            return; // a table that nothing maps
        table = (const u64 *)(BASE + own(value) * PAGE);
    }
    address = table[address >> 12 & 511];
    begin("mapped");
    put_text("what", name, 16);
    field("frame", address & 1 ? own(address) : 0);
    field("bits", address & ~0xffffffffff000ull);
}

static void tables(const u64 *table, int level, u64 upper)
{
    for (u64 i = 0; i < 512; i++) {
        u64 at = upper << 9 | i;

        if (!(table[i] & 1) || (level == 4 && i >= 256 && i < 272))
            continue;
        begin("table");
        field("level", level - 1);
        field("number", at);
        field("frame", own(table[i]));
        field("bits", table[i] & ~0xffffffffff000ull);
        if (level > 2 && own(table[i]) < (info->pt_base - BASE) / PAGE + info->nr_pt_frames)
            tables((const u64 *)(BASE + own(table[i]) * PAGE), level - 1, at);
    }
}

static void crc(const char *name, const u8 *data, u64 size)
{
    u32 crc = ~0u;

    while (size--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    field(name, (u32)~crc);
}

static void start(void)
{
    begin("start_info");
    field("address", (u64)info);
    put_text("magic", info->magic, 32);
    field("nr_pages", info->nr_pages);
    field("flags", info->flags);
    field("pt_base", info->pt_base);
    field("nr_pt_frames", info->nr_pt_frames);
    field("mfn_list", info->mfn_list);
    field("mod_start", info->mod_start);
    field("mod_len", info->mod_len);
    field("first_p2m_pfn", info->first_p2m_pfn);
    field("nr_p2m_frames", info->nr_p2m_frames);
    put_text("cmd_line", info->cmd_line, 1024);
    if (ring) {
        field("store_pfn", M2P[info->store_mfn]);
        field("store_evtchn", info->store_evtchn);
        field("console_pfn", M2P[info->console_mfn]);
        field("console_evtchn", info->console_evtchn);
    } else {
        u32 offset = (u32)info->console_mfn, size = (u32)(info->console_mfn >> 32);

        field("console_offset", offset);
        field("console_size", size);
        for (u32 i = 0; i < size; i += 8)
            field("console_info", *(const u64 *)((u64)info + offset + i));
    }
    if (info->mod_len && !(info->flags & 8))
        crc("module", (const u8 *)info->mod_start, info->mod_len);
}

static void frames(void)
{
    const u64 *list = (const u64 *)info->mfn_list;
    u64 wrong = 0;

    for (u64 i = 0; i < info->nr_pages; i++)
        wrong += M2P[list[i]] != i;
    begin("frames");
    field("wrong", wrong);
    field("no_longer_mine", info->nr_pages < 1 ? 0 : list[0] == 0);
}

static void xen(void)
{
    static char string[1024];
    struct {
        u32 index, map;
    } features = {0, 0};
    struct {
        u32 entries, pad;
        u64 buffer;
    } request = {8, 0, (u64)string};
    u64 mapping[3], parameters;
    long result;

    begin("xen");
    field("version", call(17, 0, 0, 0));
    call(17, 6, (u64)&features, 0);
    field("features", features.map);
    call(17, 5, (u64)&parameters, 0);
    field("virt_start", parameters);
    call(12, 12, (u64)mapping, 0); // XENMEM_machphys_mapping
    field("m2p_start", mapping[0]);
    field("m2p_end", mapping[1]);
    result = call(12, 9, (u64)&request, 0); // XENMEM_memory_map
    field("memory_map", result);
    for (u32 i = 0; !result && i < request.entries; i++) {
        begin("memory");
        field("addr", *(u64 *)(string + 20 * i));
        field("size", *(u64 *)(string + 20 * i + 8));
        field("type", *(u32 *)(string + 20 * i + 16));
    }
}

static void shared_info(void)
{
    // HYPERVISOR_update_va_mapping with UVMF_INVLPG
    long result = call(14, (u64)shared, info->shared_info | 0x63, 2);

    begin("shared_info");
    field("mapped", result);
    if (result)
        return;
    field("mask0", shared[1]);
    field("mask1", shared[64 + 1]);
    field("mask31", shared[31 * 64 + 1]);
    field("has_clock", ((u32 *)shared)[14] != 0); // vcpu_info[0].time.tsc_to_system_mul
}

static void entered(void)
{
    static const char *const names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10",
                                        "r11", "r12", "r13", "r14", "r15", "rflags", "cs", "ss", "ds", "es", "fs",
                                        "gs"};

    begin("cpu");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        field(names[i], registers[i]);
    field("gdtr_limit", *(unsigned short *)gdtr);
    start();
    begin("root");
    field("frame", (info->pt_base - BASE) / PAGE);
    tables((const u64 *)info->pt_base, 4, 0);
    entry("start of memory", BASE);
    entry("code", (u64)entered & -PAGE);
    entry("start_info", (u64)info);
    entry("root", info->pt_base);
    entry("last table", info->pt_base + (info->nr_pt_frames - 1) * PAGE);
    entry("stack", registers[7] - PAGE);
    entry("behind stack", registers[7]);
    entry("frame table", info->mfn_list);
    frames();
    xen();
    shared_info();
    tables_refused(info);
    string_ports(info);
}

void dump(const struct start_info *handed)
{
    u32 reason = 0;

    info = handed;
    if (!(info->flags & 2)) // SIF_INITDOMAIN
        ring = (volatile struct ring *)(BASE + M2P[info->console_mfn] * PAGE);
    begin("begin");
    if (CALLS)
        hypercalls(info);
    else
        entered();
    begin("end");
    while (ring && ring->out_cons != ring->out_prod) {
        notify();
        call(29, 0, 0, 0);
    }
    call(29, 2, (u64)&reason, 0); // SCHEDOP_shutdown
}
