"""A fault while another is delivered: which pairs make #DF, and when all ends (SDM 3A, 6.15)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import UNUSABLE, Region, RegionKind, TableRegister
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    HANDLERS,
    HOLE,
    IDT,
    IST1,
    Guest,
    finish,
    gate32,
    gate64,
    handler,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

UNMAPPED = 0x3000_0000
NOT_PRESENT = 0x0E  #: a gate of this kind raises #NP
FIRST = {  # code that raises it in long mode
    "#DE": (0, b"\x31\xc9\xf7\xf1"),
    "#UD": (6, b"\x0f\x0b"),
    "#NP": (11, b"\xb8\x40\x00\x00\x00\x8e\xd8"),
    "#GP": (13, b"\xb8\x78\x56\x00\x00\x8e\xd8"),
    "#PF": (14, b"\x8b\x04\x25\x00\x00\x00\x30"),  # mov eax, [UNMAPPED]
    "int 0x42": (0x42, b"\xcd\x42"),
    "int 8": (8, b"\xcd\x08"),  # an INT n is benign, whatever its vector
    "int 13": (13, b"\xcd\x0d"),
    "int 14": (14, b"\xcd\x0e"),
}
# First exception, then the one that its gate raises; the vector that is delivered in the end.
PAIRS = {
    ("#DE", "#NP"): 8,
    ("#GP", "#NP"): 8,
    ("#NP", "#GP"): 8,
    ("#PF", "#NP"): 8,
    ("#UD", "#NP"): 11,
    ("#UD", "#GP"): 13,
    ("int 0x42", "#NP"): 11,
    ("int 8", "#NP"): 11,
    ("int 13", "#NP"): 11,
    ("int 14", "#NP"): 11,
    ("int 14", "#GP"): 13,
}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_exceptions_are_a_double_fault_or_come_one_after_the_other(
    first: str, second: str, machine: Make
) -> None:
    vector, code = FIRST[first]
    gate = gate64(handler(vector), NOT_PRESENT) if second == "#NP" else gate64(handler(vector), selector=0x18)
    one = machine(long_guest(code, gates={vector: gate}))
    stop = finish(one)
    assert (stop.kind, stop.ip - 1 - HANDLERS) == (StopKind.HALTED, PAIRS[first, second])
    error = struct.unpack("<Q", one.read(stop.registers["rsp"], 8))[0]
    assert (error == 0) == (PAIRS[first, second] == 8)


@pytest.mark.parametrize(("first", "vector"), [("#PF", 8), ("#GP", 14), ("#UD", 14)])
def test_a_stack_that_is_not_mapped_is_a_page_fault_at_delivery(
    first: str, vector: int, machine: Make
) -> None:
    # Only a fault during a page fault is double; #PF and #DF here have a stack of their own.
    number, code = FIRST[first]
    gates = {at: gate64(handler(at), ist=1) for at in (8, 14) if at != number}
    one = machine(long_guest(code, gates=gates, registers={"rsp": UNMAPPED + 0x1000}))
    stop = finish(one)
    assert (stop.kind, stop.ip - 1 - HANDLERS) == (StopKind.HALTED, vector)
    assert one.get("cr2") == UNMAPPED + 0x1000 - (40 if first == "#UD" else 48)
    assert stop.registers["rsp"] == IST1 - 48
    assert struct.unpack("<Q", one.read(stop.registers["rsp"], 8)) == (0 if vector == 8 else 2,)


def test_a_stack_that_is_read_only_is_a_page_fault_at_delivery(machine: Make) -> None:
    memory = {0x12000 + 8: struct.pack("<Q", 0x200000 | 0x81)}  # the second 2 MiB: not writable
    guest = long_guest(
        b"\x0f\x0b", gates={14: gate64(handler(14), ist=1)}, cr0=0x8001_0031, memory=memory,
        registers={"rsp": 0x300000},
    )  # fmt: skip
    one = machine(guest)
    assert finish(one).ip - 1 - HANDLERS == 14
    assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (3,)


def test_a_non_canonical_stack_is_a_stack_fault_at_delivery(machine: Make) -> None:
    gates = {12: gate64(handler(12), ist=1)}
    one = machine(long_guest(b"\x0f\x0b", gates=gates, registers={"rsp": 0x9000_0000_0000_0000}))
    assert finish(one).ip - 1 - HANDLERS == 12
    assert struct.unpack("<QQ", one.read(one.get("rsp"), 16)) == (1, CODE)


def test_a_double_fault_without_a_gate_is_a_triple_fault_with_its_report(machine: Make) -> None:
    guest = long_guest(
        b"\x90" + FIRST["#PF"][1], gates={14: bytes(16), 8: bytes(16)}, registers={"rbx": 0x1122334455667788}
    )
    stop = finish(machine(guest))
    assert (stop.kind, stop.rule, stop.ip, stop.address) == (
        StopKind.TRIPLE_FAULT,
        "BB-B001",
        CODE + 1,
        UNMAPPED,
    )
    assert stop.detail == (
        f"#PF with error code 0x0 for address {UNMAPPED:#x} at {CODE + 1:#x} could not be delivered, "
        "nor the double fault: triple fault"
    )
    assert (stop.registers["cr2"], stop.registers["rip"]) == (UNMAPPED, CODE + 1)
    report = "\n".join(stop.report)
    assert "rbx=1122334455667788" in report
    assert f"cr2={UNMAPPED:x} cr3=10000 cr4=620 efer=d01" in report
    assert f"code at {CODE + 1:#x}: 8b 04 25 00 00 00 30" in report
    tables = "PML4[0x10000] = 0x11023, PDPT[0x11000] = 0x12023, "
    assert f"walk of {CODE + 1:#x}: {tables}PD[0x12000] = 0xa3 → physical {CODE + 1:#x}" in report
    assert f"walk of {UNMAPPED:#x}: {tables}PD[0x12c00] = 0x0 → not mapped" in report


def test_the_report_shows_the_machine_before_the_first_attempt(machine: Make) -> None:
    guest = long_guest(b"\x90\xcd\x42", registers={"rsp": UNMAPPED})  # int 0x42, and no vector has a stack
    stop = finish(machine(guest))
    assert (stop.kind, stop.registers["cr2"]) == (StopKind.TRIPLE_FAULT, UNMAPPED - 48)
    assert f"rip={CODE + 3:016x}" in stop.report[4]
    assert " cr2=0 " in stop.report[6]


TRIPLE = {
    "no IDT in 32-bit mode": Guest(b"\x0f\x0b"),
    "an empty IDT in 32-bit mode": protected_guest(b"\x0f\x0b", gates=dict.fromkeys(range(256), bytes(8))),
    "an IDT that ends before #DF": protected_guest(
        b"\xf7\xf1", gates={0: gate32(handler(0), NOT_PRESENT)}, idtr=TableRegister(IDT, 8 * 8 - 1)
    ),
    "no vector table in real mode": Guest(b"\x0f\x0b", "real16", {"cr0": 0x10, "ip": CODE}),
    "no task state for ring 0": Guest(
        b"\x0f\x0b",
        "long64-user",
        long(True, tr=UNUSABLE),
        tables(True) | identity(True),
    ),
}


@pytest.mark.parametrize("name", TRIPLE)
def test_what_cannot_be_delivered_in_any_way_is_a_triple_fault(name: str, machine: Make) -> None:
    stop = finish(machine(TRIPLE[name]))
    assert (stop.kind, stop.rule, stop.ip) == (StopKind.TRIPLE_FAULT, "BB-B001", CODE)


def test_an_idt_where_there_is_no_memory_is_named(machine: Make) -> None:
    stop = finish(machine(protected_guest(b"\x0f\x0b", idtr=TableRegister(HOLE, 0x7FF))))
    assert (stop.kind, stop.rule) == (StopKind.OUTSIDE, "BB-B002")
    assert stop.detail == f"no memory at physical address {HOLE + 6 * 8:#x}, while #UD is delivered"


def test_a_handler_whose_stack_lies_in_rom_gets_no_frame(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x42", registers={"rsp": 0xF00100})
    guest.regions = (Region(Span(0xF00000, 0x1000), RegionKind.ROM),)
    one = machine(guest)
    stop = finish(one)
    assert (stop.kind, stop.ip - 1 - HANDLERS) == (StopKind.HALTED, 0x42)
    assert one.read(0xF000F4, 12) == bytes(12)
    assert [event.kind for event in one.events] == ["rom-write"]


def test_a_handler_whose_stack_lies_in_reserved_memory_is_a_finding(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x42", registers={"rsp": 0xF00100})
    guest.regions = (Region(Span(0xF00000, 0x1000), RegionKind.RESERVED),)
    one = machine(guest)
    stop = finish(one)
    assert (stop.kind, stop.rule, stop.physical) == (StopKind.RESERVED_WRITE, "BB-B003", 0xF000F4)
    assert one.read(0xF000F4, 12) == bytes(12)
