// SPDX-License-Identifier: 0BSD
// Every hypercall of a small guest, and what Xen answers: to what it takes, and to what it does not.
#include "dump.h"

#define SELF 0x7ff0 // DOMID_SELF
#define NOWHERE 0x1000ull
#define XENS 0xffff820000000000ull // a GDT that Xen maps there
#define UNCANONICAL (1ull << 63)
#define PRESENT 0x67 // and writable, user, accessed, dirty

struct trap_info {
    u8 vector, flags;
    unsigned short cs;
    u32 pad;
    void (*address)(void);
};

// What the last exception left, and where the guest goes on after it.
struct taken {
    u64 vector, error, rip, cs, flags, stack, ss, saved_stack, resume;
} taken;

static const struct start_info *info;
static u8 page[PAGE] __attribute__((aligned(PAGE)));
static u64 words[1024] __attribute__((aligned(PAGE)));

// On the stack: rcx, r11, the error code if there is one, rip, cs, rflags, rsp, ss
#define NO_ERROR "	movq $0x900d, taken+8(%rip)\n"
#define ERROR "	pop taken+8(%rip)\n"
#define HANDLER(name, vector, code)                                                                                   \
    void name(void);                                                                                                  \
    __asm__(#name ": movq $" #vector ", taken(%rip)\n pop %rcx\n pop %r11\n" code "	jmp noted\n")
HANDLER(trap6, 6, NO_ERROR);
HANDLER(trap7, 7, NO_ERROR);
HANDLER(trap11, 11, ERROR);
HANDLER(trap12, 12, ERROR);
HANDLER(trap13, 13, ERROR);
HANDLER(trap14, 14, ERROR);
HANDLER(trap80, 0x80, NO_ERROR);
__asm__("noted: pop taken+16(%rip)\n"
        "	pop taken+24(%rip)\n"
        "	pop taken+32(%rip)\n"
        "	pop taken+40(%rip)\n"
        "	pop taken+48(%rip)\n"
        "	mov taken+56(%rip), %rsp\n"
        "	jmp *taken+64(%rip)\n");

#define TRY(instructions)                                                                                             \
    do {                                                                                                              \
        taken.vector = taken.error = 0;                                                                               \
        __asm__ volatile("mov %%rsp, taken+56(%%rip)\n lea 1f(%%rip), %%rax\n mov %%rax, taken+64(%%rip)\n" instructions \
                         "\n1:"                                                                                       \
                         :                                                                                            \
                         : "b"(info->pt_base)                                                                         \
                         : "rax", "rcx", "rdx", "r11", "memory", "cc");                                               \
        field("vector", taken.vector);                                                                                \
        field("error", taken.error);                                                                                  \
    } while (0)

static u64 frame(const void *at)
{
    return ((const u64 *)info->mfn_list)[((u64)at - BASE) / PAGE];
}

// Go on by the iret hypercall, at `rip` or, if that is 0, behind it.
static void iret(u64 cs, u64 ss, u64 rip, u64 in_syscall)
{
    taken.vector = taken.error = 0;
    __asm__ volatile("mov %%rsp, taken+56(%%rip)\n"
                     "	lea 1f(%%rip), %%rax\n"
                     "	mov %%rax, taken+64(%%rip)\n"
                     "	test %2, %2\n"
                     "	cmovz %%rax, %2\n"
                     "	push %1\n"
                     "	push taken+56(%%rip)\n"
                     "	push $2\n" // events stay masked
                     "	push %0\n"
                     "	push %2\n"
                     "	push %3\n"
                     "	push $0\n"
                     "	push $0\n"
                     "	push $0\n"
                     "	mov $23, %%eax\n"
                     "	syscall\n"
                     "1:"
                     : "+r"(cs), "+r"(ss), "+r"(rip), "+r"(in_syscall)
                     :
                     : "rax", "rcx", "r11", "memory", "cc");
    begin("iret");
    field("cs", cs);
    field("ss", ss);
    field("vector", taken.vector);
    field("error", taken.error);
    if (taken.vector) {
        field("pushed_cs", taken.cs);
        field("pushed_ss", taken.ss);
        field("pushed_flags", taken.flags);
        field("stack_kept", taken.stack == taken.saved_stack);
        field("rip_kept", taken.rip == rip);
    }
}

// INT of other vectors is left out: QEMU's TCG pushes an error code that no processor does (vector * 16 + 2).
static void traps(void)
{
    static struct trap_info table[] = {{6, 0, 0xe033, 0, trap6},       {7, 0, 0xe033, 0, trap7},
                                       {11, 0, 0xe033, 0, trap11},     {12, 0, 0xe033, 0, trap12},
                                       {13, 0, 0xe033, 0, trap13},     {14, 0, 0xe033, 0, trap14},
                                       {0x80, 0, 0x1234, 0, trap80},   {0}};

    // An entry to the end of a page that nothing follows; and one that is no address behind another one
    static struct trap_info ends[2 * PAGE / sizeof(struct trap_info)] __attribute__((aligned(PAGE)));
    static struct trap_info broken[] = {
        {6, 0, 0xe033, 0, trap13}, {7, 0, 0xe033, 0, (void (*)(void))UNCANONICAL}, {0}};
    const int last = PAGE / sizeof *ends - 1;

    begin("trap_table");
    field("set", call(0, (u64)table, 0, 0));
    field("nowhere", call(0, NOWHERE, 0, 0));
    ends[last] = (struct trap_info){6, 0, 0xe033, 0, trap80};
    field("unmap", call(14, (u64)&ends[last + 1], 0, 2));
    field("ends", call(0, (u64)&ends[last], 0, 0));
    TRY("ud2");
    field("uncanonical", call(0, (u64)broken, 0, 0));
    TRY("push $0\n ud2"); // trap13 takes an error code
    field("set", call(0, (u64)table, 0, 0));
    begin("read_fault");
    TRY("mov 0xffffffffc0000000, %%rax");
    begin("fetch_fault");
    TRY("mov $0x1000, %%eax\n jmp *%%rax");
    begin("table_fault");
    TRY("mov %%rbx, (%%rbx)");
    begin("ud2");
    TRY("ud2");
    begin("int80");
    TRY("int $0x80");
    begin("task_switched");
    field("set", call(5, 1, 0, 0));
    TRY("fnop");
    begin("told_once");
    TRY("fnop");
    begin("task_not_switched");
    field("set", call(5, 1, 0, 0));
    field("cleared", call(5, 0, 0, 0));
    TRY("fnop");
    begin("task_switched_by_cr0");
    TRY("mov %%cr0, %%rax\n or $8, %%rax\n mov %%rax, %%cr0\n fnop");
}

static void irets(void)
{
    iret(0xe030, 0xe02b, 0, 0);
    iret(0, 0xe02b, 0, 0);
    iret(0x10, 0xe02b, 0, 0);
    iret(0xe028, 0xe02b, 0, 0); // data
    iret(0xe008, 0xe02b, 0, 0); // Xen's own code
    iret(0xe030, 0, 0, 0);
    iret(0xe030, 0xe030, 0, 0); // code
    iret(0xe030, 0xe02b, UNCANONICAL, 0);
    iret(0, 0, 0, 0x100); // VGCF_in_syscall
    iret(0, 0, UNCANONICAL, 0x100);
}

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

static void tables(void)
{
    struct {
        u32 command, pad;
        u64 one, two;
    } *op = (void *)words;
    u64 *update = words;
    u32 done;

    begin("mmuext_op");
    op->command = 6;
    field("self", call4(26, (u64)op, 1, 0, SELF));
    field("number", call4(26, (u64)op, 1, 0, info->flags & 2 ? 0 : 1));
    field("dom0", call4(26, (u64)op, 1, 0, 0));
    field("io", call4(26, (u64)op, 1, 0, 0x7ff1));
    field("none_of_xens", call4(26, XENS, 0, 0, SELF));
    for (u32 command = 6; command < 24; command++) {
        if (command == 15 || command == 16 || command == 17)
            continue;
        op->command = command;
        op->one = op->two = 0;
        done = 7;
        field("command", call4(26, (u64)op, 1, (u64)&done, SELF));
        field("done", done);
    }
    op->command = 13;
    op->one = 4;
    op->two = 1;
    field("ldt_not_aligned", call4(26, (u64)op, 1, 0, SELF));
    op->one = 0;
    op->two = 8193;
    field("ldt_too_large", call4(26, (u64)op, 1, 0, SELF));
    op->command = 17;
    op->one = frame(page);
    op->two = ~0ull;
    field("copy_of_nothing", call4(26, (u64)op, 1, 0, SELF));
    op->command = 16;
    op->one = frame((void *)info->pt_base);
    field("clear_of_root", call4(26, (u64)op, 1, 0, SELF));
    op[0].command = 6;
    op[1].command = 99;
    op[2].command = 6;
    field("second_fails", call4(26, (u64)op, 3, (u64)&done, SELF));
    field("second_fails_done", done);
    for (int i = 0; i < 170; i++) {
        op[i].command = 6;
        op[i].one = 0;
    }
    field("many", call4(26, (u64)op, 170, (u64)&done, SELF));
    field("many_done", done);

    begin("mmu_update");
    field("none_of_own_number", call4(1, (u64)words, 0, 0, 0));
    field("none_of_xens", call4(1, XENS, 0, 0, SELF));
    field("nowhere", call4(1, NOWHERE, 1, (u64)&done, SELF));
    field("nowhere_done", done);
    for (u64 kind = 0; kind < 8; kind++) {
        update[0] = frame(page) * PAGE | kind;
        update[1] = kind == 1 ? ((u64)page - BASE) / PAGE : 0x1234;
        done = 7;
        field("kind", call4(1, (u64)update, 1, (u64)&done, SELF));
        field("done", done);
        field("written", *(u64 *)page);
    }

    begin("update_va_mapping");
    for (int i = 0; i < 5; i++) {
        static const u64 bits[] = {0x8, 0x10, 0x80, 0x100, 1ull << 62};

        field("bits", call(14, (u64)page, frame(page) * PAGE | PRESENT | bits[i], 0));
    }
    for (int i = 0; i < 6; i++) {
        static const u64 flags[] = {0, 2 | 4, 1 | 4, 1 | NOWHERE, 2 | NOWHERE, 3 | NOWHERE}; // UVMF_*

        field("flags", call(14, (u64)page, frame(page) * PAGE | PRESENT, flags[i]));
    }
    field("uncanonical", call(14, (u64)page & ~0ull >> 16, frame(page) * PAGE | PRESENT, 0));
}

static void descriptors(void)
{
    static const u64 values[] = {
        0,                  0x00af9b000000ffff, 0x00cff3000000ffff, 0x0000600000000000, // DPL 3, not present
        0x0000800000000000, 0x0000e00000000000, // type 0
        0x0000e20000000000, 0x0000890000000000, 0x00008e0000080000, // LDT, TSS, interrupt gate
        0x00008c0000080000, 0x0000ec0000080000, 0x0000ec00e0330000, 0x0000ec00e0080000, // call gates
        0x0000ec00fffc0000, 0x0000ec0100080000, 0x1234ec0000081234, 0x0020fb0000000000,
    };
    u64 frames[1] = {frame(page)};

    begin("update_descriptor");
    for (u64 i = 0; i < sizeof values / sizeof *values; i++) {
        *(u64 *)page = ~0ull;
        field("answer", call(10, frame(page) * PAGE, values[i], 0));
        field("value", *(u64 *)page);
    }
    field("not_aligned", call(10, frame(page) * PAGE + 4, 0, 0));
    field("not_mine", call(10, 0, 0, 0));
    field("in_root", call(10, info->pt_base - BASE, 0, 0));

    begin("set_gdt");
    for (int i = 0; i < 512; i++)
        ((u64 *)page)[i] = 0;
    for (u64 i = 0; i < sizeof values / sizeof *values; i++)
        ((u64 *)page)[i] = values[i];
    ((u64 *)page)[6] = ((u64 *)page)[7] = ((u64 *)page)[8] = 0;
    field("writable", call(2, (u64)frames, 512, 0));
    field("too_many", call(2, (u64)frames, 7169, 0));
    field("nowhere", call(2, NOWHERE, 512, 0));
    field("read_only", call(14, (u64)page, frame(page) * PAGE | (PRESENT & ~2), 2));
    field("with_a_bad_gate", call(2, (u64)frames, 512, 0));
    field("writable_again", call(14, (u64)page, frame(page) * PAGE | PRESENT, 2));
    ((u64 *)page)[12] = ((u64 *)page)[14] = ((u64 *)page)[13] = 0;
    field("read_only_again", call(14, (u64)page, frame(page) * PAGE | (PRESENT & ~2), 2));
    field("set", call(2, (u64)frames, 512, 0));
    for (u64 i = 0; i < sizeof values / sizeof *values; i++)
        field("value", ((u64 *)page)[i]);
    field("while_in_use", call(14, (u64)page, frame(page) * PAGE | PRESENT, 2));
    field("empty", call(2, 0, 0, 0));
    field("writable_at_last", call(14, (u64)page, frame(page) * PAGE | PRESENT, 2));
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

static void grants(void)
{
    struct {
        unsigned short dom, pad;
        u32 nr_frames;
        short status;
        u64 frame_list;
    } setup;
    struct {
        unsigned short dom, pad;
        u32 nr_frames, max_nr_frames;
        short status;
    } size;
    struct {
        u32 nr_frames;
        unsigned short dom;
        short status;
        u64 frame_list;
    } states;
    struct {
        unsigned short dom, pad;
        u32 version;
    } get;
    u32 version;

    begin("grant_query_size");
    for (int i = 0; i < 3; i++) {
        static const unsigned short domids[] = {SELF, 0, 77}; // its own number a domU is not told

        size.dom = domids[i];
        size.nr_frames = size.max_nr_frames = 0;
        size.status = 5;
        field("answer", call(20, 6, (u64)&size, 1));
        field("status", (u32)size.status);
        field("most", size.max_nr_frames);
    }
    field("count", call(20, 6, (u64)&size, 2));
    field("negative", call(20, 6, (u64)&size, 1u << 31));
    field("nowhere", call(20, 6, NOWHERE, 1));
    field("unknown", call(20, 77, (u64)&size, 1));

    begin("grant_setup_table");
    for (int i = 0; i < 4; i++) {
        static const u32 counts[] = {1, 3, 64, 65};

        for (int j = 0; j < 66; j++)
            words[j] = 0;
        setup.dom = SELF;
        setup.nr_frames = counts[i];
        setup.status = 5;
        setup.frame_list = (u64)words;
        field("answer", call(20, 2, (u64)&setup, 1));
        field("status", (u32)setup.status);
        field("frames", (words[0] != 0) + (words[1] != 0) + (words[2] != 0));
        size.dom = SELF;
        call(20, 6, (u64)&size, 1);
        field("size", size.nr_frames);
    }
    setup.nr_frames = 1;
    setup.frame_list = NOWHERE;
    field("list_nowhere", call(20, 2, (u64)&setup, 1));
    field("list_nowhere_status", (u32)setup.status);
    setup.frame_list = XENS;
    field("list_of_xens", call(20, 2, (u64)&setup, 1));
    setup.frame_list = (u64)words;
    setup.dom = 77;
    field("of_none", call(20, 2, (u64)&setup, 1));
    field("of_none_status", (u32)setup.status);
    setup.dom = SELF;
    setup.status = 5;
    call(20, 2, (u64)&setup, 1);
    field("mapped", call(14, (u64)page, words[0] * PAGE | PRESENT, 2));
    ((u64 *)page)[9] = 0x1234;
    field("entry", ((u64 *)page)[9]);

    begin("grant_version");
    get.dom = SELF;
    field("get", call(20, 10, (u64)&get, 1));
    field("is", get.version);
    version = 3;
    field("three", call(20, 8, (u64)&version, 1));
    version = 0;
    field("zero", call(20, 8, (u64)&version, 1));
    version = 1;
    field("one", call(20, 8, (u64)&version, 1));
    field("kept", ((u64 *)page)[9]);
    ((u64 *)page)[30] = 0x1234;
    states.dom = SELF;
    states.status = 5;
    states.nr_frames = 1;
    states.frame_list = (u64)words;
    field("no_states", call(20, 9, (u64)&states, 1));
    field("no_states_status", (u32)states.status);
    version = 2;
    field("two", call(20, 8, (u64)&version, 1));
    call(20, 10, (u64)&get, 1);
    field("is_now", get.version);
    field("cleared", ((u64 *)page)[18]);
    field("cleared_behind", ((u64 *)page)[30]);
    field("states", call(20, 9, (u64)&states, 1));
    field("states_status", (u32)states.status);
    states.nr_frames = 9;
    field("too_many_states", call(20, 9, (u64)&states, 1));
    field("too_many_states_status", (u32)states.status);
    version = 1;
    field("back", call(20, 8, (u64)&version, 1));
    get.dom = 77;
    field("of_none", call(20, 10, (u64)&get, 1));
    field("given_back", call(14, (u64)page, frame(page) * PAGE | PRESENT, 2));
}

static void vcpu_ops(void)
{
    u64 area[2] = {(u64)page, 0};
    u64 period[2] = {999999, 0};

    begin("vcpu_op");
    for (int i = 0; i < 48; i++)
        page[i] = 0xff;
    field("runstate", call(24, 4, 0, (u64)page));
    field("state", *(u32 *)page);
    field("was_running", ((u64 *)page)[2] != 0);
    for (int i = 0; i < 48; i++)
        page[i] = 0xff;
    field("register_runstate", call(24, 5, 0, (u64)area));
    field("registered_state", *(u32 *)page);
    area[0] = NOWHERE;
    field("register_runstate_nowhere", call(24, 5, 0, (u64)area));
    area[0] = XENS;
    field("register_runstate_of_xens", call(24, 5, 0, (u64)area));
    area[0] = (u64)page;
    field("register_time", call(24, 13, 0, (u64)area));
    field("has_clock", ((u32 *)page)[6] != 0);
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
    field("nmi_of_something", call(24, 11, 0, (u64)page));
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
    field("unknown", call(30, 2, (u64)page, 0));
    field("nowhere", call(30, 0, NOWHERE, 0));
    field("set_callbacks", call(4, UNCANONICAL, UNCANONICAL, UNCANONICAL));
    field("nmi_nowhere", call(28, 0, NOWHERE, 0));
    field("nmi_unregister", call(28, 1, 0, 0));
    field("nmi_unknown", call(28, 2, 0, 0));
    field("stack_switch", call(3, 0xe02b, (u64)page + PAGE, 0));
}

static void places(void)
{
    u64 args[2] = {frame(page), 0};

    begin("vcpu_info");
    for (int i = 0; i < 5; i++) {
        static const u32 offsets[] = {4096 - 56, 4, 0x7ffffff0, 0, 0};

        args[0] = frame(i == 3 ? (void *)info->pt_base : (void *)page);
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
        if (kind != 2) // writable page tables would hide what comes after
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
    field("high_channel", call(32, 1ull << 40 | 99, (u64)page, 0));
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
    field("sched_op", call(29, 99, (u64)page, 0));
    field("version_op", call(17, 99, (u64)page, 0));
    field("memory_op", call(12, 63, (u64)page, 0));
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
