// SPDX-License-Identifier: 0BSD
// Every hypercall of a small guest, and what Xen answers: to what it takes, and to what it does not.
#include "calls.h"

const struct start_info *info;
u8 scratch[PAGE] __attribute__((aligned(PAGE)));
u64 words[1024] __attribute__((aligned(PAGE)));

static void multicalls(void)
{
    struct {
        u64 op, result, args[6];
    } *list = (void *)words;

    begin("multicall");
    list[0].op = 13;
    list[0].args[0] = (u64)list;
    list[0].args[1] = 1;
    field("in_itself", call(13, (u64)list, 1, 0));
    field("inner", list[0].result);
    list[0].op = 17;
    list[0].args[0] = 0;
    list[1].op = 999;
    list[2].op = 17;
    list[2].args[0] = 1;
    list[2].args[1] = NOWHERE;
    field("three", call(13, (u64)list, 3, 0));
    field("first", list[0].result);
    field("second", list[1].result);
    field("third", list[2].result);
    field("none", call(13, 0, 0, 0));
    field("none_of_xens", call(13, XENS, 0, 0));
    field("nowhere", call(13, NOWHERE, 1, 0));
}

static void segments(void)
{
    static const unsigned short selectors[] = {0xe02b, 0x1234, 3, 0xffff, 0xe033, 0};

    begin("segment_base");
    for (int which = 0; which < 6; which++)
        field("not_canonical", call(25, which, UNCANONICAL, 0));
    field("kernel", call(25, 2, 0xffff888000001234, 0));
    for (int i = 0; i < 6; i++) {
        u32 low, high;
        unsigned short gs;

        field("user_selector", call(25, 3, selectors[i], 0));
        __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xc0000101));
        field("base", low | (u64)high << 32);
        __asm__ volatile("mov %%gs, %0" : "=r"(gs));
        field("gs", gs);
    }
    field("zero", call(25, 2, 0, 0));
    begin("debugreg");
    for (int number = 0; number < 9; number++) {
        field("get", call(9, number, 0, 0));
        field("set", call(8, number, 0x1000 + (u64)number, 0));
        field("got", call(9, number, 0, 0));
        field("high", call(8, number, 1ull << 40, 0));
        field("xens", call(8, number, XENS, 0));
    }
    field("dr7_detect", call(8, 7, 0x2000, 0));
    field("dr7_ports", call(8, 7, 0x20001, 0));
    field("dr7_ones", call(8, 7, 0xdc00, 0));
    field("dr7", call(9, 7, 0, 0));
    for (int number = 0; number < 4; number++)
        call(8, number, 0, 0);
    call(8, 7, 0, 0);
}

static void vcpu_ops(void)
{
    u64 area[2] = {(u64)scratch, 0};
    u64 period[2] = {999999, 0};

    begin("vcpu_op");
    for (int i = 0; i < 48; i++)
        scratch[i] = 0xff;
    field("runstate", call(24, 4, 0, (u64)scratch));
    field("state", *(u32 *)scratch);
    field("was_running", ((u64 *)scratch)[2] != 0);
    for (int i = 0; i < 48; i++)
        scratch[i] = 0xff;
    field("register_runstate", call(24, 5, 0, (u64)area));
    field("registered_state", *(u32 *)scratch);
    area[0] = NOWHERE;
    field("register_runstate_nowhere", call(24, 5, 0, (u64)area));
    area[0] = XENS;
    field("register_runstate_of_xens", call(24, 5, 0, (u64)area));
    area[0] = (u64)scratch;
    field("register_time", call(24, 13, 0, (u64)area));
    field("has_clock", ((u32 *)scratch)[6] != 0);
    area[0] = XENS;
    field("register_time_of_xens", call(24, 13, 0, (u64)area));
    area[0] = 0;
    call(24, 5, 0, (u64)area);
    call(24, 13, 0, (u64)area);
    for (int command = 0; command < 16; command++) {
        if (command == 2 || command == 10) // down; vcpu_info
            continue;
        field("of_another", call(24, command, 1, 0));
        if (command != 11)
            field("of_nothing", call(24, command, 0, NOWHERE));
    }
    field("nmi_of_something", call(24, 11, 0, (u64)scratch));
    field("nmi", call(24, 11, 0, 0));
    field("period_too_short", call(24, 6, 0, (u64)period));
    period[0] = 1ull << 62;
    field("period_too_long", call(24, 6, 0, (u64)period));
    field("stop_periodic", call(24, 7, 0, 0));
    period[0] = ~0ull >> 1;
    field("single_shot", call(24, 8, 0, (u64)period));
    field("stop_single_shot", call(24, 9, 0, 0));
    field("timer", call(15, ~0ull >> 1, 0, 0));
    field("no_timer", call(15, 0, 0, 0));

    begin("callback_op");
    for (u64 kind = 0; kind < 9; kind++) {
        struct {
            unsigned short type, flags;
            u32 pad;
            u64 address;
        } one = {(unsigned short)kind, 0, 0, kind > 2 ? (u64)trap6 : 0};

        if (kind != 4) {
            field("register", call(30, 0, (u64)&one, 0));
            field("unregister", call(30, 1, (u64)&one, 0));
        }
        one.address = UNCANONICAL;
        field("not_canonical", call(30, 0, (u64)&one, 0));
    }
    field("unknown", call(30, 2, (u64)scratch, 0));
    field("nowhere", call(30, 0, NOWHERE, 0));
    field("set_callbacks", call(4, UNCANONICAL, UNCANONICAL, UNCANONICAL));
    field("nmi_nowhere", call(28, 0, NOWHERE, 0));
    field("nmi_unregister", call(28, 1, 0, 0));
    field("nmi_unknown", call(28, 2, 0, 0));
    field("stack_switch", call(3, 0xe02b, (u64)scratch + PAGE, 0));
}

static void places(void)
{
    u64 args[2] = {frame(scratch), 0};

    begin("vcpu_info");
    for (int i = 0; i < 5; i++) {
        static const u32 offsets[] = {4096 - 56, 4, 0x7ffffff0, 0, 0};

        args[0] = frame(i == 3 ? (void *)info->pt_base : (void *)scratch);
        args[1] = offsets[i];
        field("register", call(24, 10, 0, (u64)args));
    }
    field("again", call(24, 10, 0, (u64)args));
}

static void assists_and_others(void)
{
    u32 level = 4;

    begin("vm_assist");
    for (u64 kind = 0; kind < 8; kind++)
        if (kind != 2) // writable scratch tables would hide what comes after
            field("enable", call(21, 0, kind, 0));
    field("enable_32", call(21, 0, 32, 0));
    field("enable_77", call(21, 0, 77, 0));
    field("unknown", call(21, 2, 0, 0));
    level = 3;
    field("iopl", call(33, 6, (u64)&level, 0));
    TRY("ud2");
    field("pushed", taken.flags & 0x3000);
    iret(0xe030, 0xe02b, 0, 0);
    TRY("ud2");
    field("pushed", taken.flags & 0x3000);
    level = 4;
    for (u64 kind = 0; kind < 8; kind++)
        field("disable", call(21, 1, kind, 0));

    begin("copies");
    field("high_number", call(17 | 1ull << 40, 0, 0, 0));
    field("high_version", call(17, 1ull << 40, 0, 0));
    field("high_yield", call(29, 1ull << 40, 0, 0));
    field("high_channel", call(32, 1ull << 40 | 99, (u64)scratch, 0));
    field("into_m2p", call(17, 1, 0xffff800000000000, 0));
    field("into_gdt", call(17, 1, XENS, 0));
    field("into_root", call(17, 1, info->pt_base, 0));
    field("into_nothing", call(17, 1, NOWHERE, 0));
    field("from_m2p", call4(26, 0xffff800000000000, 1, 0, SELF));
    field("from_below_xens", call4(26, (1ull << 47) - 8, 1, 0, SELF));

    begin("physdev_op");
    field("iopl_4", call(33, 6, (u64)&level, 0));
    level = 0;
    field("iopl_0", call(33, 6, (u64)&level, 0));
    field("iopl_nowhere", call(33, 6, NOWHERE, 0));
    field("iobitmap_nowhere", call(33, 7, NOWHERE, 0));

    begin("unknown");
    for (long number = 50; number < 64; number++)
        field("number", call(number, 0, 0, 0));
    field("sched_op", call(29, 99, (u64)scratch, 0));
    field("version_op", call(17, 99, (u64)scratch, 0));
    field("memory_op", call(12, 63, (u64)scratch, 0));
}

void hypercalls(const struct start_info *handed)
{
    info = handed;
    traps();
    irets();
    multicalls();
    tables();
    descriptors();
    segments();
    grants();
    vcpu_ops();
    assists_and_others();
    events(info);
    places();
}
