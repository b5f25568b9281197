// SPDX-License-Identifier: 0BSD
// Event channels: what Xen answers, which bits it sets, and when and how it calls the guest for an event.
#include "dump.h"

#define SELF 0x7ff0 // DOMID_SELF

struct shared_info {
    struct {
        u8 pending, mask;
        u64 selector, rest[6];
    } vcpu[32];
    u64 pending[64], mask[64];
};

struct upcall {
    u64 count, rip, cs, flags, stack, ss;
} upcall;

static volatile struct shared_info *shared;
static u8 place[PAGE] __attribute__((aligned(PAGE)));

// On the stack: rcx, r11, rip, cs, rflags, rsp, ss. Goes on where it was, with events masked.
void upcalled(void);
__asm__("upcalled: incq upcall(%rip)\n"
        "	pop %rcx\n"
        "	pop %r11\n"
        "	pop upcall+8(%rip)\n"
        "	pop upcall+16(%rip)\n"
        "	pop upcall+24(%rip)\n"
        "	pop upcall+32(%rip)\n"
        "	pop upcall+40(%rip)\n"
        "	mov upcall+32(%rip), %rsp\n"
        "	jmp *upcall+8(%rip)\n");

struct status {
    unsigned short dom, pad;
    u32 port, status, vcpu;
    union {
        struct {
            unsigned short dom, pad;
            u32 port;
        } remote;
        u32 number;
    };
};

static long op(int command, void *arguments)
{
    return call(32, (u64)command, (u64)arguments, 0);
}

static long of_port(int command, u32 port)
{
    u32 arguments[2] = {port, 0};

    return op(command, arguments);
}

static void status(const char *name, u32 port)
{
    struct status one = {SELF, 0, port, 99, 99, .number = 0};

    begin("port");
    field(name, port);
    field("answer", op(5, &one));
    field("status", one.status);
    field("vcpu", one.vcpu);
    if (one.status == 1)
        field("for_me", one.remote.dom == SELF ? 2 : 1);
    if (one.status == 2)
        field("remote", one.remote.dom);
    if (one.status == 4)
        field("number", one.number);
}

static void bits(const char *kind, u32 port)
{
    begin(kind);
    field("pending", shared->pending[port / 64] >> port % 64 & 1);
    field("masked", shared->mask[port / 64] >> port % 64 & 1);
    field("selected", shared->vcpu[0].selector);
    field("upcall_pending", shared->vcpu[0].pending);
    field("upcall_mask", shared->vcpu[0].mask);
    field("upcalls", upcall.count);
}

// The guest has seen all events.
static void forget(u32 port)
{
    shared->vcpu[0].mask = 1;
    shared->pending[port / 64] = 0;
    shared->vcpu[0].selector = 0;
    shared->vcpu[0].pending = 0;
    upcall.count = 0;
}

static void said(void)
{
    field("upcalls", upcall.count);
    field("cs", upcall.cs);
    field("flags", upcall.flags & ~0x8d5ull); // arithmetic ones depend on the compiler
    field("ss", upcall.ss);
    field("mask", shared->vcpu[0].mask);
}

static void channels(void)
{
    u32 unbound[2] = {SELF | SELF << 16, 0}, bind[3] = {SELF, 0, 0}, virq[3] = {0, 0, 0}, ipi[2] = {0, 0};
    u32 first, second, target[2], pirq[3] = {1, 0, 0};
    unsigned short none[4] = {77, SELF, 0, 0};

    begin("alloc_unbound");
    field("answer", op(6, unbound));
    field("port", first = unbound[1]);
    field("of_none", op(6, none));
    field("nowhere", op(6, (void *)0x1000));
    status("unbound", first);
    begin("send_to_nobody");
    field("answer", of_port(4, first));
    begin("bind_interdomain");
    bind[1] = first;
    field("answer", op(0, bind));
    field("port", second = bind[2]);
    bits("after_bind", second);
    forget(second);
    status("bound", first);
    status("other", second);
    begin("bind_twice");
    field("answer", op(0, bind));
    begin("send");
    field("answer", of_port(4, second));
    bits("after_send", first);
    forget(first);
    shared->mask[0] |= 1ull << first;
    of_port(4, second);
    bits("masked_send", first);
    begin("unmask");
    field("answer", of_port(9, first));
    bits("after_unmask", first);
    forget(first);
    begin("bind_vcpu");
    target[0] = first;
    target[1] = 0;
    field("first", op(8, target));
    target[1] = 1;
    field("of_none", op(8, target));
    field("priority", of_port(13, first));
    begin("close");
    field("answer", of_port(3, first));
    field("twice", of_port(3, first));
    field("zero", of_port(3, 0));
    field("far", of_port(3, 5000));
    status("closed", first);
    status("left", second);
    of_port(3, second);
    for (int i = 0; i < 4; i++) {
        static const u32 ports[] = {0, 63, 64, 5000};

        status("of_nobody", ports[i]);
        field("send", of_port(4, ports[i]));
        field("unmask", of_port(9, ports[i]));
        field("priority", of_port(13, ports[i]));
        target[0] = ports[i];
        target[1] = 0;
        field("bind_vcpu", op(8, target));
    }
    begin("bind_virq");
    field("answer", op(1, virq));
    field("port", first = virq[2]);
    field("twice", op(1, virq));
    field("send", of_port(4, first));
    virq[1] = 1;
    field("of_none", op(1, virq));
    virq[0] = 2;
    field("global_of_none", op(1, virq));
    virq[0] = 24;
    virq[1] = 0;
    field("unknown", op(1, virq));
    status("virq", first);
    target[0] = first;
    field("bind_vcpu", op(8, target));
    begin("bind_pirq");
    field("answer", op(2, pirq) != 0);
    pirq[0] = 0x10000;
    field("unknown", op(2, pirq));
    begin("bind_ipi");
    field("answer", op(7, ipi));
    field("port", second = ipi[1]);
    ipi[0] = 1;
    field("of_none", op(7, ipi));
    status("ipi", second);
    begin("others");
    none[0] = 77;
    field("reset_of_none", op(10, none));
    field("unknown", of_port(99, 0));
    of_port(3, first);
    of_port(3, second);
}

static void upcalls(void)
{
    u32 ipi[2] = {0, 0}, virq[3] = {0, 0, 0}, port, timer;
    u64 timeout[2] = {1, 0};

    op(7, ipi);
    port = ipi[1];
    forget(port);
    begin("set_callbacks");
    field("answer", call(4, (u64)upcalled, 0, 0));
    of_port(4, port);
    begin("while_masked");
    said();
    shared->vcpu[0].mask = 0;
    field("before", upcall.count);
    call(17, 0, 0, 0);
    begin("after_unmasking");
    said();
    shared->vcpu[0].mask = 0;
    call(17, 0, 0, 0);
    begin("while_pending");
    said();
    forget(port);
    shared->vcpu[0].mask = 0;
    field("answer", of_port(4, port));
    begin("at_once");
    said();
    forget(port);
    shared->mask[0] |= 1ull << port;
    shared->vcpu[0].mask = 0;
    of_port(4, port);
    begin("masked_port");
    said();
    of_port(9, port);
    begin("unmasked_port");
    said();
    forget(port);

    // by iret: the frame's IF unmasks
    of_port(4, port);
    __asm__ volatile("mov %%rsp, %%rax\n lea 1f(%%rip), %%rcx\n"
                     "	push $0xe02b\n push %%rax\n push $0x202\n push $0xe030\n push %%rcx\n"
                     "	push $0\n push $0\n push $0\n push $0\n mov $23, %%eax\n syscall\n1:"
                     :
                     :
                     : "rax", "rcx", "r11", "memory", "cc");
    begin("by_iret");
    said();
    forget(port);

    call(24, 7, 0, 0); // VCPUOP_stop_periodic_timer
    op(1, virq);
    timer = virq[2];
    forget(timer);
    begin("timer");
    field("past", call(24, 8, 0, (u64)timeout));
    field("pending", shared->pending[0] >> timer & 1);
    shared->vcpu[0].mask = 0;
    call(17, 0, 0, 0);
    said();
    forget(timer);
    begin("block");
    of_port(4, port);
    field("answer", call(29, 1, 0, 0));
    said();
    forget(port);
    of_port(3, port);
    of_port(3, timer);
}

void events(const struct start_info *info)
{
    u64 own = ((const u64 *)info->mfn_list)[((u64)place - BASE) / PAGE] * PAGE;

    call(14, (u64)place, info->shared_info | 0x63, 2);
    shared = (volatile struct shared_info *)place;
    // the daemons' events come when they want
    for (int i = 0; i < 64; i++)
        shared->mask[i] = i ? 0 : info->flags & 2 ? 0 : 1ull << info->store_evtchn | 1ull << info->console_evtchn;
    channels();
    upcalls();
    for (int i = 0; i < 64; i++)
        shared->mask[i] = 0;
    call(14, (u64)place, own | 0x67, 2);
}
