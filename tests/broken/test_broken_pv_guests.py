"""For every rule about a Xen PV domain: the smallest mutation of a guest that boots, and its findings."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bootbuild.api import MemoryContent, Profile
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.host import Host
from bootbuild.model.span import Span
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from bootbuild_xenpv.rules import ASKED_NOTES, NO_ROUTE, PROFILE_RULES, RULES
from tiny_pv_guest import (
    BASE,
    DATA,
    ENTRY,
    HYPERCALLS,
    IRET,
    MEMORY,
    MFN_LIST,
    MMUEXT_OP,
    PHYSDEV_OP,
    PHYSICAL,
    PT_BASE,
    SET_TRAP_TABLE,
    STARTUP,
    UPDATE_VA_MAPPING,
    VIRT_BASE,
    call,
    guest,
    subject,
    traps,
    u64,
)

PROFILES: dict[str, Callable[[], Profile]] = {"domu": XenDomU, "dom0": XenDom0}
UD2 = b"\x0f\x0b"
HANDLER = STARTUP + 0x200
FRAME = 0x67  #: present, writable, user, accessed, dirty
MODULE = ("module", MemoryContent(b"m" * 5000), b"")


def branch(test: bytes) -> bytes:
    """Test; jz over four nops: two different blocks whichever way the flags go."""
    return test + b"\x74\x04" + b"\x90" * 4


def iret_frame(cs: int) -> bytes:
    """Push what the iret hypercall takes, to go to STARTUP with `cs`."""
    pushes = b"\x54\x58"  # push %rsp; pop %rax: the stack to go on with
    pushes += b"\x68" + struct.pack("<I", 0xE02B) + b"\x50\x68\x02\x02\0\0" + b"\x68" + struct.pack("<I", cs)
    pushes += b"\x68" + struct.pack("<i", STARTUP - (1 << 64)) + b"\x6a\0" * 4
    return pushes + b"\xb8" + struct.pack("<I", IRET) + b"\x0f\x05"


# mov MFN_LIST(%rsi), %rax: the frame table
FRAME_TABLE = b"\x48\x8b\x46" + bytes([MFN_LIST])
# mov $frame of DATA from the table, %rax; shl $12, %rax
DATA_FRAME = (
    FRAME_TABLE + b"\x48\x8b\x80" + struct.pack("<I", 8 * ((DATA - VIRT_BASE) >> 12)) + b"\x48\xc1\xe0\x0c"
)
ROOT_FRAME = (
    b"\x48\x8b\x5e" + bytes([PT_BASE])  # mov PT_BASE(%rsi), %rbx
    + b"\x48\xb8" + u64(-VIRT_BASE) + b"\x48\x01\xc3"  # pseudo-physical
    + b"\x48\xc1\xeb\x09"  # shr $9, %rbx: eight times its frame
    + FRAME_TABLE + b"\x48\x8b\x04\x18" + b"\x48\xc1\xe0\x0c"  # mov (%rax,%rbx), %rax; shl $12, %rax
)  # fmt: skip
# or $FRAME, %rax; mov %rax, %rsi; mov $page, %rdi; xor %edx, %edx; update_va_mapping
MAP_RAX = (
    b"\x48\x83\xc8\x67\x48\x89\xc6\x48\xbf" + u64(HYPERCALLS) + b"\x31\xd2"
    + b"\xb8" + struct.pack("<I", UPDATE_VA_MAPPING) + b"\x0f\x05"
)  # fmt: skip
# shr $12, %rax; mov %rax, DATA + 8: the frame of an mmuext_op at DATA
PIN_RAX = b"\x48\xc1\xe8\x0c\x48\xa3" + u64(DATA + 8) + call(MMUEXT_OP, DATA, 1, 0, 0x7FF0)


@dataclass(frozen=True)
class Case:
    """One mutation and the rule that it breaks."""

    name: str
    rule: str
    data: bytes = field(repr=False)
    profile: str = "domu"
    stub: Span | None = None


CASES = [
    Case("executes ud2 without a trap table", "BB-B040", guest(first=UD2)),
    Case("calls a hypercall page that it did not ask for", "BB-B040",
         guest(first=b"\x48\xb8" + u64(HYPERCALLS) + b"\xff\xd0")),
    Case("reads behind what is mapped", "BB-B040", guest(first=b"\x48\xa1" + u64(VIRT_BASE + (1 << 30)))),
    Case("halts", "BB-B041", guest(first=b"\xf4")),
    Case("clears IF before it asked for IOPL", "BB-B041", guest(first=b"\xfa")),
    Case("loads a GDT", "BB-B041", guest(first=b"\x0f\x01\x14\x24")),
    Case("writes to a port before it asked for IOPL", "BB-B041", guest(first=b"\xee")),
    Case("switches paging off", "BB-B041", guest(first=b"\x31\xc0\x0f\x22\xc0")),
    Case("returns from an exception by iretq", "BB-B041",
         guest(first=call(SET_TRAP_TABLE, DATA) + UD2, data=traps({6: HANDLER}),
               startup=b"\xeb\xfe".ljust(0x200, b"\0") + b"\x48\x83\xc4\x10\x48\xcf")),
    Case("has a privileged instruction in its stub, which Xen emulates", "BB-B041", guest(first=b"\x0f\x06"),
         stub=Span(PHYSICAL, 0x1000)),
    Case("writes to its page table", "BB-B042",
         guest(first=b"\x48\x8b\x46" + bytes([PT_BASE]) + b"\x48\x89\x00")),
    Case("pushes below the page of its boot stack", "BB-B042",
         guest(first=b"\x48\x81\xec\0\x10\0\0\x50")),
    Case("faults without a stack", "BB-B043",
         guest(first=call(SET_TRAP_TABLE, DATA) + b"\x31\xe4" + UD2, data=traps({6: HANDLER}))),
    Case("irets to ring 3", "BB-B044", guest(first=iret_frame(0xE033))),
    Case("irets without a frame", "BB-B044", guest(first=b"\x31\xe4\xb8\x17\0\0\0\x0f\x05")),
    Case("takes a frame of its own for a machine frame", "BB-B045",
         guest(first=call(UPDATE_VA_MAPPING, HYPERCALLS, (HYPERCALLS - VIRT_BASE) | FRAME, 0) + UD2)),
    Case("maps its page table writable", "BB-B045", guest(first=ROOT_FRAME + MAP_RAX + UD2)),
    Case("pins a page that it can write to", "BB-B045", guest(first=DATA_FRAME + PIN_RAX + UD2)),
    Case("takes free memory for zero", "BB-U006", guest(first=branch(b"\x80\xbc\x24\0\x10\0\0\0"))),
    Case("takes its frames for neighbours", "BB-U010",
         # mov (%rax), %rcx; inc %rcx; cmp 8(%rax), %rcx
         guest(first=branch(FRAME_TABLE + b"\x48\x8b\x08\x48\xff\xc1\x48\x3b\x48\x08"))),
    Case(
        "takes a hypercall's arguments back",
        "BB-U008",
        # cmp $6, %rdi
        guest(first=call(PHYSDEV_OP, 6, DATA) + branch(b"\x48\x83\xff\x06"), data=b"\1"),
    ),
    # -- what the profile says of the notes before Xen does
    Case("wants its hypercalls in the middle of a page", "BB-L206",
         guest(notes={2: u64(HYPERCALLS + 0x800)})),
    Case("wants its hypercalls outside itself", "BB-L206", guest(notes={2: u64(BASE + MEMORY)})),
    Case("wants its frame table above VIRT_BASE", "BB-L207", guest(notes={15: u64(VIRT_BASE + (1 << 30))})),
    Case("wants its frame table in the middle of a page", "BB-L207", guest(notes={15: u64(0x8000000800)})),
    Case("wants its symbol table loaded", "BB-L209", guest(notes={11: b"yes\0"})),
    Case("wants its frames translated", "BB-L211", guest(notes={10: b"!auto_translated_physmap\0"})),
    # -- what the loader models say, with Xen's message
    Case("has a physical entry", "BB-L108", guest(notes={1: u64(PHYSICAL)})),
    Case("has the physical addresses of its virtual ones", "BB-L108", guest(notes={4: u64(VIRT_BASE)})),
    Case("is for another Xen", "BB-L106", guest(notes={5: b"xen-2.0\0"})),
    Case("names no loader", "BB-L105", guest(notes={8: None})),
    Case("needs a feature that nobody knows", "BB-L110", guest(notes={10: b"!bogus\0"})),
    Case("says nothing of its Xen", "BB-L106", guest(notes={5: None})),
    Case("has an offset without a base", "BB-L107", guest(notes={3: None, 4: u64(0)})),
    Case("lies below its base", "BB-L108", guest(notes={3: u64(BASE + 0x1000)})),
    Case("has a base of one byte", "BB-L108", guest(notes={3: b"\0"})),
    Case("has an entry of twelve bytes, which is 0", "BB-L108", guest(notes={1: b"\1" * 12})),
    Case("wants its frame table in itself", "BB-L109", guest(notes={15: u64(STARTUP)})),
    Case("needs a feature whose name is cut off", "BB-L110", guest(notes={10: b"!dom"})),
    Case("needs to be dom0", "BB-L112", guest(notes={10: b"!dom0\0"})),
    Case("needs ring 0", "BB-L112", guest(notes={10: b"!supervisor_mode_kernel\0"}), profile="dom0"),
    Case("supports nothing", "BB-L112", guest(notes={17: b""}), profile="dom0"),
    Case("wants its hypercalls below its base", "BB-L114", guest(notes={2: u64(VIRT_BASE - 0x1000)}),
         profile="dom0"),
    Case("says that it is no dom0", "BB-L112", guest(notes={17: struct.pack("<I", 1)}), profile="dom0"),
]  # fmt: skip


def judged(what: Subject, profile: str, disabled: frozenset[str] = frozenset()) -> ProfileVerdict:
    """The verdict of a profile whose loader model is asked first, as in every boot."""
    made = PROFILES[profile]()
    return prove(what, made, Host.discover().loader(made.loader), disabled=disabled)


def rules_of(verdict: ProfileVerdict) -> set[str]:
    return {finding.rule for finding in verdict.findings}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_unmutated_guest_boots(profile: str) -> None:
    verdict = judged(subject(guest()), profile)
    assert [f.message for f in verdict.findings] == []
    assert (verdict.outcome, len(verdict.runs)) == (Outcome.BOOTED, 3)


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_a_mutation_has_exactly_its_finding(one: Case) -> None:
    what = subject(one.data, stub=one.stub)
    verdict = judged(what, one.profile)
    assert rules_of(verdict) == {one.rule}, [f.message for f in verdict.findings]
    assert verdict.outcome is Outcome.FAILED
    assert judged(what, one.profile, frozenset({one.rule})).outcome is not Outcome.FAILED


GOOD = {
    "clears IF after it asked for IOPL": guest(first=call(PHYSDEV_OP, 6, DATA) + b"\xfa", data=b"\1"),
    "clears TS, which Xen emulates": guest(first=b"\x0f\x06"),
    "maps a frame of its own": guest(first=DATA_FRAME + MAP_RAX),
    "comes back from an exception by the hypercall": guest(
        first=call(SET_TRAP_TABLE, DATA) + UD2,
        data=traps({6: HANDLER}),
        # from the frame's RIP on: add $2, 16(%rsp); four words for rax, r11, rcx, flags instead of two
        startup=b"\xeb\xfe".ljust(0x200, b"\0")
        + b"\x48\x83\x44\x24\x10\x02\x48\x83\xc4\x10\x6a\0\x6a\0\x6a\0\x6a\0\xb8\x17\0\0\0\x0f\x05",
    ),
    "goes on by iret in its kernel": guest(first=iret_frame(0xE030)),
    "calls a hypercall page that it asked for": guest(
        first=b"\xbf\0\0\0\0\x48\xb8" + u64(HYPERCALLS + 17 * 32) + b"\xff\xd0",
        notes={2: u64(HYPERCALLS)},
    ),
    "wants its frame table elsewhere": guest(notes={15: u64(0x8000000000)}),
    "unpins what it was started on": guest(first=ROOT_FRAME + PIN_RAX, data=struct.pack("<IIQQ", 4, 0, 0, 0)),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", GOOD)
def test_what_xen_allows_is_no_finding(name: str, profile: str) -> None:
    verdict = judged(subject(GOOD[name]), profile)
    assert [f.message for f in verdict.findings] == []
    told = [event.detail for run in verdict.runs for event in run.events if event.kind == "refused"]
    assert told == [], "what is refused is no finding while the guest goes on"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("offset", [VIRT_BASE, VIRT_BASE - (1 << 30), 1 << 20, -PHYSICAL])
def test_p_paddr_may_begin_anywhere_if_paddr_offset_says_where(offset: int, profile: str) -> None:
    """With VIRT_BASE for an offset, p_paddr is p_vaddr: what a linker makes of a script without AT().

    Xen adds and subtracts in 64 bits, and so an offset may be negative.
    """
    physical = offset + PHYSICAL & (1 << 64) - 1
    pushes = b"\x50" * 8  # on the boot stack, which the profile finds by pseudo-physical addresses
    built = guest(first=pushes, notes={2: u64(HYPERCALLS), 4: u64(offset)}, physical=physical)
    verdict = judged(subject(built, physical=physical, stub=Span(physical, 0x1000), memory=8 << 20), profile)
    assert [f.message for f in verdict.findings] == []
    assert (verdict.outcome, verdict.runs[0].entered) == (Outcome.BOOTED, ENTRY)


# NEW_USER_BASEPTR of the very same root; set_callbacks; stack_switch; then into the guest's user mode
USER = ROOT_FRAME + PIN_RAX + call(4, 0, 0, HANDLER) + call(3, 0, DATA + 0x700) + iret_frame(0xE033)
USER_ROOT = struct.pack("<IIQQ", 15, 0, 0, 0)
TO_SHUTDOWN = call(29, 2, DATA + 0x100)  # SCHEDOP_shutdown
WAYS_BACK = {  # what user mode does, with which IOPL, the exception, what its kernel finds as CS on its stack
    "a system call": (b"\x0f\x05", 0, 0, 24),
    "a system call with DF set, which its kernel has clear": (b"\xfd\x0f\x05", 0, 0, 24),
    "a system call after a port that IOPL 3 permits": (b"\xe4\x80\x0f\x05", 3, 0, 24),
    "an exception": (UD2, 0, 6, 24),
    "an exception with an error code": (b"\xf4", 3, 13, 32),
    "a page fault, which is told as user mode's": (b"\x48\xa1" + u64(0x1234), 0, 14, 32),
    "a port, with the kernel's IOPL": (b"\xe4\x80", 1, 13, 32),
    "a move from CR0, which Xen emulates for the kernel alone": (b"\x0f\x20\xc0", 3, 13, 32),
}


@pytest.mark.parametrize("name", WAYS_BACK)
def test_user_mode_leads_back_to_the_kernels_stack(name: str) -> None:
    """There the frame's CS still has RPL 3, and the stack is the one that stack_switch named."""
    code, iopl, vector, place = WAYS_BACK[name]
    # cmpw $0xe033, place(%rsp); jne to ud2; cmp: RSP is just below DATA + 0x700; SCHEDOP_shutdown
    # pushf; testl $DF, (%rsp); lea 8(%rsp), %rsp; jne to itself
    handler = b"\x9c\xf7\x04\x24\0\x04\0\0\x48\x8d\x64\x24\x08\x75\xfe"
    handler += b"\x66\x81\x7c\x24" + bytes([place]) + b"\x33\xe0\x75\xfe"
    handler += (
        b"\x48\x81\xfc" + struct.pack("<i", DATA + 0x700 - place - 32 - (1 << 64)) + b"\x75\xfe" + TO_SHUTDOWN
    )
    if vector == 14:
        handler = b"\x48\x83\x7c\x24\x10\x04\x75\xfe" + handler  # cmpq $4, 16(%rsp); jne to itself
    first = call(PHYSDEV_OP, 6, DATA + 0x180) + call(SET_TRAP_TABLE, DATA + 0x200) + USER
    # the hypercall has taken RSI: start_info is found again by the stack's neighbourhood
    first = b"\x49\x89\xf7" + first.replace(ROOT_FRAME, b"\x4c\x89\xfe" + ROOT_FRAME)
    data = USER_ROOT.ljust(0x180, b"\0") + bytes([iopl]).ljust(0x80, b"\0")
    data += traps({vector: HANDLER} if vector else {})
    built = guest(first=first, data=data, startup=code.ljust(0x200, b"\0") + handler)
    what = subject(built, expect=b"never")
    verdict = judged(what, "domu")
    (finding,) = verdict.findings
    assert (finding.rule, finding.message) == (
        "BB-B023",
        "'never' was not printed: SCHEDOP_shutdown: poweroff",
    )


IMAGES: dict[str, tuple[str, Subject]] = {
    "no notes": ("BB-L201", subject(guest(notes=dict.fromkeys((1, 3, 5, 8))))),
    "too little memory": ("BB-L202", subject(guest(), memory=2 << 20)),
    "two modules": ("BB-L203", subject(guest(), modules=(MODULE, MODULE))),
    "a module with a command line": ("BB-L203", subject(guest(), modules=((*MODULE[:2], b"x"),))),
    "32 bits": ("BB-L204", subject(guest(bits=32))),
    "a kernel below VIRT_BASE": ("BB-L202", subject(guest(notes={4: u64(PHYSICAL + 0x1000)}))),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_the_domain_cannot_be_built_of(name: str, profile: str) -> None:
    """Asked of the profile alone: a loader model refuses some of them first, by rules of its own."""
    rule, what = IMAGES[name]
    verdict = prove(what, PROFILES[profile]())
    assert (rules_of(verdict), verdict.runs) == ({rule}, ())


def test_a_frame_table_may_end_at_virt_base_for_xl_alone() -> None:
    """dom0's builder wants a byte between (setup_pv_physmap); count_pgtables asks whether they overlap."""
    memory = 64 << 20
    built = subject(guest(notes={15: u64(VIRT_BASE - memory // 4096 * 8)}), memory=memory)
    verdicts = {profile: judged(built, profile) for profile in PROFILES}
    assert {profile: rules_of(verdict) for profile, verdict in verdicts.items()} == {
        "domu": set(),
        "dom0": {"BB-L207"},
    }


def test_a_page_that_xen_fills_need_not_be_zero() -> None:
    """It lies in .bss, for which a stub answers."""
    elsewhere = Span(0x400000, 0x1000)
    asked = judged(subject(guest(notes={2: u64(HYPERCALLS)}), stub=elsewhere), "domu")
    assert [f.message for f in asked.findings] == []
    # movb $1, HYPERCALLS
    not_asked = judged(
        subject(guest(first=b"\xb0\x01\xa2" + u64(HYPERCALLS)), stub=elsewhere),
        "domu",
    )
    assert rules_of(not_asked) == {"BB-B021"}


PIN_ROOT = ROOT_FRAME + PIN_RAX
# mov %rax, DATA; then set_gdt, or an mmu_update of it
TO_DATA = b"\x48\xa3" + u64(DATA)
REFUSALS = {  # what Xen answers with -EINVAL: the guest goes on, and the trace says why
    "pins what is pinned": (PIN_ROOT, struct.pack("<IIQQ", 3, 0, 0, 0), "is pinned already"),
    "unpins twice": (
        PIN_ROOT + call(MMUEXT_OP, DATA, 1, 0, 0x7FF0),
        struct.pack("<IIQQ", 4, 0, 0, 0),
        "is not pinned",
    ),
    "writes to Xen's part of its root": (
        ROOT_FRAME + b"\x48\x05\0\x08\0\0" + TO_DATA + call(1, DATA, 1, 0, 0x7FF0),
        bytes(16),
        "slot 256 of the root is Xen's",
    ),
    "maps what was its user mode's root": (  # start_info is kept in R15: NEW_USER_BASEPTR, of it and of 0
        b"\x49\x89\xf7"
        + PIN_ROOT
        + call(MMUEXT_OP, DATA + 24, 1, 0, 0x7FF0)
        + b"\x4c\x89\xfe"
        + ROOT_FRAME
        + MAP_RAX,
        struct.pack("<IIQQIIQQ", 15, 0, 0, 0, 15, 0, 0, 0),
        "is a page table of level 4 (in use 2 times), not writable",
    ),
    "makes a GDT of a page that it can write to": (
        DATA_FRAME + b"\x48\xc1\xe8\x0c" + TO_DATA + call(2, DATA, 512),
        bytes(8),
        "is writable (in use 1 time), not a page of descriptors",
    ),
    "makes a GDT of more than the guest's part": (
        call(2, DATA, 7169),
        bytes(8),
        "7169 descriptors; those from 7168 on are Xen's",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_xen_refuses_is_told_with_the_reason(name: str) -> None:
    first, data, reason = REFUSALS[name]
    verdict = judged(subject(guest(first=first, data=data)), "domu")
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    told = [event.detail for event in verdict.runs[0].events if event.kind == "refused"]
    assert len(told) == 1
    assert reason in told[0]


def test_every_rule_has_a_case() -> None:
    seen = {one.rule for one in CASES} | {rule for rule, _ in IMAGES.values()}
    assert {rule.id for rule in (*RULES, *PROFILE_RULES)} - {NO_ROUTE.id, ASKED_NOTES.id} <= seen


def test_a_refusal_names_the_machine_frame_that_was_meant() -> None:
    first = call(UPDATE_VA_MAPPING, HYPERCALLS, (HYPERCALLS - VIRT_BASE) | FRAME, 0) + UD2
    (finding,) = judged(subject(guest(first=first)), "domu").findings
    frame = (HYPERCALLS - VIRT_BASE) >> 12
    assert (
        f"machine frame {frame:#x} is not this domain's; as a pseudo-physical one it would be"
        in finding.message
    )


def test_entry_is_told_as_a_virtual_address() -> None:
    assert judged(subject(guest()), "domu").runs[0].entered == ENTRY
