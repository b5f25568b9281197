"""What hardware faults on and the engine lets pass: one guest breaks each rule, and its neighbour none."""

from __future__ import annotations

import struct

import pytest

import control_register_cases
import operand_cases
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, Guest, finish, identity, long, long_guest, tables
from strictness import Make, guest

BROKEN = control_register_cases.BROKEN | operand_cases.BROKEN
PERMITTED = control_register_cases.PERMITTED | operand_cases.PERMITTED


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


def test_in_compatibility_mode_the_upper_half_of_a_register_does_not_count(machine: Make) -> None:
    code = (
        b"\x48\xb8\x00\x04\x00\x00\xff\xff\xff\xff"  # mov rax,0xffffffff00000400
        b"\x48\xbb\x00\x00\x01\x00\xff\xff\xff\xff"  # mov rbx,0xffffffff00010000
        b"\x6a\x10"  # push 0x10
        b"\x68\x1d\x00\x10\x00"  # push 0x10001d
        b"\x48\xcb"  # lretq
        b"\x0f\x23\xf8"  # mov dr7,eax
        b"\x0f\x22\xdb"  # mov cr3,ebx
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).ip, one.events) == (CODE + len(code), ())


ALIGNMENT_COMES_LAST = {
    # CR0, CR4, what is raised instead
    "CR0.EM": (0x8000_0035, 0x620, 6),
    "CR0.TS": (0x8000_0039, 0x620, 7),
    "no CR4.OSFXSR": (0x8000_0031, 0x20, 6),
}


@pytest.mark.parametrize("name", ALIGNMENT_COMES_LAST)
def test_where_sse_is_off_alignment_is_not_the_fault(name: str, machine: Make) -> None:
    cr0, cr4, vector = ALIGNMENT_COMES_LAST[name]
    one = machine(long_guest(BROKEN["movaps load"].code, cr0=cr0, cr4=cr4))
    assert finish(one).ip == HANDLERS + vector + 1
    assert one.events == ()


@pytest.mark.parametrize("access", [b"\x0f\x21\xf8", b"\x0f\x23\xc0"], ids=["read", "write"])
def test_with_dr7_gd_an_access_to_a_debug_register_is_a_debug_exception(access: bytes, machine: Make) -> None:
    code = b"\xb8\x00\x24\x00\x00\x0f\x23\xf8" + access  # mov eax,0x2400; mov dr7,rax
    one = machine(long_guest(code))
    assert finish(one).ip == HANDLERS + 1 + 1
    assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (CODE + 8,)
    assert (one.get("dr6") & 1 << 13, one.get("dr7")) == (1 << 13, 0x400)  # so that the handler may look


def test_the_strictness_reaches_ring_3(machine: Make) -> None:
    code = BROKEN["movaps load"].code
    one = machine(Guest(code, "long64-user", long(True), tables(True) | identity(True)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.rule for event in one.events] == ["BB-B015"]


def test_rdpmc_is_a_fault_in_ring_3_too(machine: Make) -> None:
    code = BROKEN["RDPMC"].code
    one = machine(Guest(code, "long64-user", long(True), tables(True) | identity(True)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.rule for event in one.events] == ["BB-B018"]
