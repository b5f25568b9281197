"""What hardware faults on and the engine lets pass: one guest breaks each rule, and its neighbour none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, Guest, finish, identity, long, long_guest, protected, tables

Make = Callable[[Guest | bytes], Machine]


@dataclass(frozen=True)
class Case:
    """`code` in 32- or 64-bit mode; where it breaks the rule, and how that is said."""

    rule: str
    code: bytes = field(repr=False)
    at: int = 0
    detail: str = ""
    bits: int = 64
    state: dict[str, Any] = field(default_factory=dict)


BROKEN = {
    # -- CR0
    "PG without PE": Case(
        "BB-B010",
        (
            b"\xb8\x10\x00\x00\x80"  # mov eax,0x80000010
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        "MOV of 0x80000010 to CR0: paging without protected mode",
        32,
    ),
    "NW without CD": Case(
        "BB-B010",
        (
            b"\xb8\x11\x00\x00\x20"  # mov eax,0x20000011
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        "MOV of 0x20000011 to CR0: NW without CD",
        32,
    ),
    "PG with LME and without PAE": Case(
        "BB-B010",
        (
            b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
            b"\x0f\x22\xc0"  # mov cr0,eax
        ),
        5,
        "MOV of 0x80000011 to CR0: paging with EFER.LME but without CR4.PAE",
        32,
        {"efer": 0x100},
    ),
    "bits above 31 of CR0": Case(
        "BB-B010",
        (
            b"\x48\xb8\x31\x00\x00\x80\x01\x00\x00\x00"  # mov rax,0x180000031
            b"\x0f\x22\xc0"  # mov cr0,rax
        ),
        10,
        "MOV of 0x180000031 to CR0: bits 63:32 are reserved",
    ),
    "paging off in 64-bit code": Case(
        "BB-B010",
        (
            b"\xb8\x31\x00\x00\x00"  # mov eax,0x31
            b"\x0f\x22\xc0"  # mov cr0,rax
        ),
        5,
        "MOV of 0x31 to CR0: paging switched off in 64-bit code",
    ),
    # -- CR3
    "CR3 beyond the address width": Case(
        "BB-B011",
        (
            b"\x48\xb8\x00\x00\x01\x00\x00\x01\x00\x00"  # mov rax,0x10000010000
            b"\x0f\x22\xd8"  # mov cr3,rax
        ),
        10,
        "MOV of 0x10000010000 to CR3: bits from 40 on are reserved",
    ),
    "CR3 with bit 63": Case(
        "BB-B011",
        (
            b"\x48\xb8\x00\x00\x01\x00\x00\x00\x00\x80"  # mov rax,0x8000000000010000
            b"\x0f\x22\xd8"  # mov cr3,rax
        ),
        10,
        "MOV of 0x8000000000010000 to CR3: bits from 40 on are reserved",
    ),
    # -- CR4
    "PAE cleared in long mode": Case(
        "BB-B012",
        (
            b"\xb8\x00\x06\x00\x00"  # mov eax,0x600
            b"\x0f\x22\xe0"  # mov cr4,rax
        ),
        5,
        "MOV of 0x600 to CR4: PAE cleared in long mode",
    ),
    "SMAP, which CPUID lacks": Case(
        "BB-B012",
        (
            b"\xb8\x20\x06\x20\x00"  # mov eax,0x200620
            b"\x0f\x22\xe0"  # mov cr4,rax
        ),
        5,
        "MOV of 0x200620 to CR4: bits 0x200000 are reserved",
    ),
    "a bit of CR4 that means nothing": Case(
        "BB-B012",
        (
            b"\xb8\x00\x00\x00\x80"  # mov eax,0x80000000
            b"\x0f\x22\xe0"  # mov cr4,eax
        ),
        5,
        "MOV of 0x80000000 to CR4: bits 0x80000000 are reserved",
        32,
    ),
    "CR4 from a high register": Case(
        "BB-B012",
        (
            b"\x41\xb9\x20\x16\x00\x00"  # mov r9d,0x1620
            b"\x41\x0f\x22\xe1"  # mov cr4,r9
        ),
        6,
        "MOV of 0x1620 to CR4: bits 0x1000 are reserved",
    ),
    # -- EFER
    "a reserved bit of EFER": Case(
        "BB-B013",
        (
            b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
            b"\xb8\x01\x1d\x00\x00"  # mov eax,0x1d01
            b"\x31\xd2"  # xor edx,edx
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x1d01 to EFER: reserved bits",
    ),
    "LME cleared while paging is on": Case(
        "BB-B013",
        (
            b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
            b"\xb8\x01\x04\x00\x00"  # mov eax,0x401
            b"\x31\xd2"  # xor edx,edx
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x401 to EFER: LME changed while paging is on",
    ),
    # -- canonical addresses
    "LSTAR": Case(
        "BB-B014",
        (
            b"\xb9\x82\x00\x00\xc0"  # mov ecx,0xc0000082
            b"\x31\xc0"  # xor eax,eax
            b"\xba\x00\x80\x00\x00"  # mov edx,0x8000
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x800000000000 to 0xc0000082: not a canonical address",
    ),
    "FS base": Case(
        "BB-B014",
        (
            b"\xb9\x00\x01\x00\xc0"  # mov ecx,0xc0000100
            b"\x31\xc0"  # xor eax,eax
            b"\xba\x00\x00\x00\xff"  # mov edx,0xff000000
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0xff00000000000000 to 0xc0000100: not a canonical address",
    ),
    "LGDT": Case(
        "BB-B014",
        (
            b"\x0f\x01\x14\x25\x00\x00\x09\x00"  # lgdt [0x90000]
        ),
        0,
        "LGDT with base 0x800000001000",
    ),
    "LIDT, by RIP": Case(
        "BB-B014",
        (
            b"\x0f\x01\x1d\xf9\xff\xf8\xff"  # lidt [rip + 0x90000 - 0x100007]
        ),
        0,
        "LIDT with base 0x800000001000",
    ),
    # -- alignment
    "movaps load": Case(
        "BB-B015",
        (
            b"\x0f\x28\x04\x25\x08\x00\x09\x00"  # movaps xmm0,[0x90008]
        ),
        0,
        "16-byte move with operand at 0x90008",
    ),
    "movaps store, off the stack": Case(
        "BB-B015",
        (
            b"\x0f\x29\x44\x24\x08"  # movaps [rsp+8],xmm0
        ),
        0,
        "16-byte move with operand at 0x90008",
    ),
    "movapd": Case(
        "BB-B015",
        (
            b"\x66\x44\x0f\x28\x0c\x25\x04\x00\x09\x00"  # movapd xmm9,[0x90004]
        ),
        0,
        "16-byte move with operand at 0x90004",
    ),
    "movdqa, by base, index and scale": Case(
        "BB-B015",
        (
            b"\xb8\x01\x00\x08\x00"  # mov eax,0x80001
            b"\xbb\x00\x40\x00\x00"  # mov ebx,0x4000
            b"\x66\x0f\x6f\x0c\x98"  # movdqa xmm1,[rax+rbx*4]
        ),
        10,
        "16-byte move with operand at 0x90001",
    ),
    "movdqa store, 32 bits": Case(
        "BB-B015",
        (
            b"\x66\x0f\x7f\x0d\x01\x00\x09\x00"  # movdqa [0x90001],xmm1
        ),
        0,
        "16-byte move with operand at 0x90001",
        32,
        {"cr4": 0x600},
    ),
    # -- MSRs
    "RDMSR": Case(
        "BB-B016",
        (
            b"\xb9\x45\x23\x01\x00"  # mov ecx,0x12345
            b"\x0f\x32"  # rdmsr
        ),
        5,
        "RDMSR of 0x12345, which does not exist",
    ),
    "WRMSR": Case(
        "BB-B016",
        (
            b"\xb9\x45\x23\x01\x00"  # mov ecx,0x12345
            b"\x0f\x30"  # wrmsr
        ),
        5,
        "WRMSR of 0x0 to 0x12345, which does not exist",
        32,
    ),
    "PAT with a memory type that there is not": Case(
        "BB-B019",
        (
            b"\xb9\x77\x02\x00\x00"  # mov ecx,0x277
            b"\xb8\x02\x00\x00\x00"  # mov eax,2
            b"\x31\xd2"  # xor edx,edx
            b"\x0f\x30"  # wrmsr
        ),
        12,
        "WRMSR of 0x2 to 0x277: there is no memory type 0x2",
        32,
    ),
    # -- performance counters
    "RDPMC": Case("BB-B018", b"\x31\xc9\x0f\x33", 2, "RDPMC"),  # xor ecx,ecx; rdpmc
}
L_AND_D = b"\x6a\x38\x68\x10\x00\x10\x00\x48\xcb"  # push 0x38; push 0x100010; lretq

PERMITTED = {
    "CR0 as it is": Case("BB-B010", b"\x0f\x20\xc0\x0f\x22\xc0"),  # mov rax,cr0; mov cr0,rax
    "NW with CD": Case("BB-B010", (
        b"\xb8\x11\x00\x00\x60"  # mov eax,0x60000011
        b"\x0f\x22\xc0"  # mov cr0,eax
    ), bits=32),
    "PG with neither LME nor PAE": Case("BB-B010", (
        b"\xb8\x11\x00\x00\x80"  # mov eax,0x80000011
        b"\x0f\x22\xc0"  # mov cr0,eax
    ), bits=32, state={"cr3": 0x10000, "cr4": 0x10}),
    "CR3 below the address width": Case("BB-B011", b"\x0f\x20\xd8\x0f\x22\xd8"),  # mov rax,cr3; mov cr3,rax
    "CR3 with PCD and PWT": Case("BB-B011", (
        b"\xb8\x18\x00\x01\x00"  # mov eax,0x10018
        b"\x0f\x22\xd8"  # mov cr3,rax
    )),
    "CR4 with all that CPUID reports": Case("BB-B012", (
        b"\xb8\xfc\x07\x15\x00"  # mov eax,0x1507fc
        b"\x0f\x22\xe0"  # mov cr4,rax
    )),
    "PAE cleared outside long mode": Case("BB-B012", (
        b"\xb8\x20\x00\x00\x00"  # mov eax,0x20
        b"\x0f\x22\xe0"  # mov cr4,eax
        b"\x31\xc0"  # xor eax,eax
        b"\x0f\x22\xe0"  # mov cr4,eax
    ), bits=32),
    "EFER as it is": Case("BB-B013", (
        b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
        b"\x0f\x32"  # rdmsr
        b"\x0f\x30"  # wrmsr
    )),
    "LME set while paging is off": Case("BB-B013", (
        b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
        b"\xb8\x00\x01\x00\x00"  # mov eax,0x100
        b"\x0f\x30"  # wrmsr
    ), bits=32),
    "the highest canonical LSTAR of the low half": Case("BB-B014", (
        b"\xb9\x82\x00\x00\xc0"  # mov ecx,0xc0000082
        b"\xb8\xff\xff\xff\xff"  # mov eax,-1
        b"\xba\xff\x7f\x00\x00"  # mov edx,0x7fff
        b"\x0f\x30"  # wrmsr
    )),
    "the lowest canonical one of the high half": Case("BB-B014", (
        b"\xb9\x00\x01\x00\xc0"  # mov ecx,0xc0000100
        b"\x31\xc0"  # xor eax,eax
        b"\xba\x00\x80\xff\xff"  # mov edx,0xffff8000
        b"\x0f\x30"  # wrmsr
    )),
    "LGDT with a canonical base": Case("BB-B014", b"\x0f\x01\x14\x25\x10\x00\x09\x00"),  # lgdt [0x90010]
    "LGDT of 32 bits, whatever follows": Case("BB-B014", (
        b"\x0f\x01\x15\x00\x00\x09\x00"  # lgdt [0x90000]
    ), bits=32),
    "aligned movaps": Case("BB-B015", (
        b"\x0f\x28\x04\x25\x10\x00\x09\x00"  # movaps xmm0,[0x90010]
        b"\x0f\x29\x04\x24"  # movaps [rsp],xmm0
    )),
    "movaps between registers": Case("BB-B015", b"\x0f\x28\xc1"),  # movaps xmm0,xmm1
    "movups": Case("BB-B015", b"\x0f\x10\x04\x25\x08\x00\x09\x00"),  # movups xmm0,[0x90008]
    "movdqu": Case("BB-B015", b"\xf3\x0f\x6f\x04\x25\x01\x00\x09\x00"),  # movdqu xmm0,[0x90001]
    "movq of MMX": Case("BB-B015", b"\x0f\x6f\x04\x25\x01\x00\x09\x00\x0f\x77"),  # movq mm0,[0x90001]; emms
    "an MSR that is there": Case("BB-B016", (
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x0f\x30"  # wrmsr
    )),
    "PAT as it is": Case("BB-B019", (
        b"\xb9\x77\x02\x00\x00"  # mov ecx,0x277
        b"\x0f\x32"  # rdmsr
        b"\x0f\x30"  # wrmsr
    )),
    "bytes that look like RDPMC": Case("BB-B018", b"\xb8\x0f\x33\x0f\x33"),  # mov eax,0x330f330f
}  # fmt: skip


def guest(case: Case) -> Guest:
    """With a HLT behind, and pseudo-descriptors at 0x90000 (not canonical) and 0x90010."""
    memory = {0x90000: struct.pack("<HQ", 0x47, 0x8000_0000_1000), 0x90010: struct.pack("<HQ", 0x47, 0x1000)}
    if case.bits == 64:
        return Guest(case.code + b"\xf4", "long64", long(**case.state), tables(True) | identity() | memory)
    pages = {0x10000: struct.pack("<2I", 0x83, 0x400083)}
    return Guest(case.code + b"\xf4", "protected32", protected(**case.state), tables(False) | pages | memory)


@pytest.mark.parametrize("name", BROKEN)
def test_a_guest_without_a_handler_ends_with_the_rule(name: str, machine: Make) -> None:
    case = BROKEN[name]
    broken = guest(case)
    broken.memory[0x2000 + 13 * (16 if case.bits == 64 else 8)] = bytes(16)  # no gate for #GP
    broken.memory[0x2000 + 8 * (16 if case.bits == 64 else 8)] = bytes(16)  # nor for #DF
    stop = finish(machine(broken))
    assert (stop.kind, stop.rule, stop.ip) == (StopKind.VIOLATION, case.rule, CODE + case.at)
    assert stop.detail.startswith(f"{case.detail}; #GP with error code 0x0 at {CODE + case.at:#x} could not")


@pytest.mark.parametrize("name", BROKEN)
def test_a_guest_with_a_handler_gets_the_fault_and_the_event_stays(name: str, machine: Make) -> None:
    case = BROKEN[name]
    one = machine(guest(case))
    stop = finish(one)
    assert (stop.kind, stop.ip) == (StopKind.HALTED, HANDLERS + 13 + 1)
    frame = struct.unpack("<QQ" if case.bits == 64 else "<II", one.read(one.get("rsp"), case.bits // 4))
    assert frame == (0, CODE + case.at)
    probe = case.rule == "BB-B016"  # a guest that is ready may look whether an MSR is there
    assert [(e.ip, e.detail, e.rule) for e in one.events] == [
        (CODE + case.at, f"{case.detail}: #GP(0)", "" if probe else case.rule)
    ]


@pytest.mark.parametrize("name", PERMITTED)
def test_what_hardware_permits_is_no_finding(name: str, machine: Make) -> None:
    case = PERMITTED[name]
    one = machine(guest(case))
    stop = finish(one)
    assert (stop.kind, stop.ip, one.events) == (StopKind.HALTED, CODE + len(case.code) + 1, ())


def test_every_rule_has_a_permitted_neighbour() -> None:
    assert {case.rule for case in PERMITTED.values()} == {case.rule for case in BROKEN.values()}


def test_a_code_segment_with_both_l_and_d_ends_the_run(machine: Make) -> None:
    stop = finish(machine(long_guest(L_AND_D)))
    assert (stop.kind, stop.rule, stop.ip) == (StopKind.VIOLATION, "BB-B017", CODE + 0x10)
    assert stop.detail == "CS holds selector 0x38, whose descriptor has both L and D set"


@pytest.mark.parametrize("selector", [0x08, 0x10], ids=["L alone", "D alone"])
def test_a_code_segment_with_one_of_them_is_fine(selector: int, machine: Make) -> None:
    one = machine(
        long_guest(L_AND_D.replace(b"\x6a\x38", bytes((0x6A, selector))), memory={CODE + 0x10: b"\xf4"})
    )
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())


def test_outside_long_mode_l_means_nothing(machine: Make) -> None:
    state = protected()
    code = (
        b"\x6a\x38"  # push 0x38
        b"\x68\x10\x00\x10\x00"  # push 0x100010
        b"\xcb"  # retf
    ).ljust(16, b"\x90") + b"\xf4"
    assert finish(machine(Guest(code, "protected32", state, tables(False)))).kind is StopKind.HALTED


def test_a_site_is_judged_again_when_it_is_executed_again(machine: Make) -> None:
    # aligned all the way; then, after a hundred times, by one byte not: inc rax; jmp again
    code = (
        b"\xb8\x00\x00\x20\x00"  # mov eax,0x200000
        b"\xb9\xe8\x03\x00\x00"  # mov ecx,1000
        b"\x0f\x28\x00"  # movaps xmm0,[rax]
        b"\x48\x83\xc0\x10"  # add rax,16
        b"\xff\xc9"  # dec ecx
        b"\x75\xf5"  # jnz again
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    late = code.replace(b"\xe8\x03\x00\x00", b"\x64\x00\x00\x00").replace(b"\xf4", b"\x48\xff\xc0\xeb\xee")
    one = machine(long_guest(late))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.detail for event in one.events] == ["16-byte move with operand at 0x200641: #GP(0)"]


def test_code_written_over_a_judged_site_is_not_judged_by_it(machine: Make) -> None:
    # rdmsr of an MSR that is there, overwritten by two NOPs and executed with another index
    code = (
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x66\xc7\x04\x25\x05\x00\x10\x00\x90\x90"  # mov word ptr [0x100005],0x9090
        b"\x83\xf9\x1b"  # cmp ecx,0x1b
        b"\xb9\x99\x99\x00\x00"  # mov ecx,0x9999
        b"\x74\xea"  # je again
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())


def test_the_strictness_reaches_ring_3(machine: Make) -> None:
    code = BROKEN["movaps load"].code
    one = machine(Guest(code, "long64-user", long(True), tables(True) | identity(True)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.rule for event in one.events] == ["BB-B015"]
