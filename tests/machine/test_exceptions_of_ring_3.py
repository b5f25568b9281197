"""An exception of ring 3: the stack of ring 0, the gate's privilege, and handlers in conforming code.

Source of the frames and error codes: Intel SDM volume 3A, 6.12 to 6.14.
"""

from __future__ import annotations

import struct

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import TableRegister
from exception_frames import RF, WIDTHS, Make, arrived, frame, user
from machine_guests import (
    CODE,
    GDT,
    IDT,
    STACK,
    STACK0,
    TABLES,
    TSS,
    Guest,
    finish,
    gate32,
    gate64,
    handler,
)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_fault_of_ring_3_comes_on_the_stack_of_ring_0(width: str, machine: Make) -> None:
    one = machine(user(b"\x90\xfa", width))  # nop; cli
    assert arrived(one) == 13
    _, letter, _ = WIDTHS[width]
    size = struct.calcsize(letter)
    assert one.get("rsp") == STACK0 - 6 * size
    error, ip, cs, flags, sp, ss = frame(one, letter, 6)
    start = CODE if width == "64" else CODE + 0x80
    assert (error, ip, cs, sp, ss) == (0, start + 1, 0x23 if width == "64" else 0x2B, STACK, 0x33)
    assert flags & RF
    assert (one.get("cs"), one.get("ss")) == ((0x08, 0) if width == "64" else (0x10, 0x18))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("kind", "vector"), [(0xEE, 0x42), (0x8E, 13)], ids=["DPL 3", "DPL 0"])
def test_int_n_needs_the_gate_s_privilege(kind: int, vector: int, width: str, machine: Make) -> None:
    gate = WIDTHS[width][2]
    one = machine(user(b"\xcd\x42", width, {0x42: gate(handler(0x42), kind)}))
    assert arrived(one) == vector
    if vector == 13:
        assert frame(one, WIDTHS[width][1], 1) == [0x42 * 8 + 2]  # IDT, and not EXT: an instruction asked


@pytest.mark.parametrize("width", WIDTHS)
def test_a_fault_does_not_look_at_the_gate_s_privilege(width: str, machine: Make) -> None:
    assert arrived(machine(user(b"\x0f\x0b", width))) == 6


def test_ring_3_is_returned_to(machine: Make) -> None:
    gates = {0x42: gate64(CODE + 0x80, 0xEE)}
    guest = user(b"\xcd\x42\xff\xc3\x0f\x0b", "64", gates)  # int 0x42; inc ebx; ud2
    guest.memory[CODE + 0x80] = b"\x48\xcf"  # iretq
    one = machine(guest)
    assert arrived(one) == 6
    assert (one.get("rbx"), frame(one, "Q", 5)[3:]) == (1, [STACK, 0x33])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("code", [b"\x90\xcc", b"\x90\xcd\x03"], ids=["int3", "int 3"])
def test_a_breakpoint_without_the_privilege_is_a_fault_of_its_instruction(
    code: bytes, width: str, machine: Make
) -> None:
    one = machine(user(code, width))
    assert arrived(one) == 13
    start = CODE if width == "64" else CODE + 0x80
    assert frame(one, WIDTHS[width][1], 2) == [3 * 8 + 2, start + 1]


CONFORMING = {"32": 0x00CF9F000000FFFF, "64": 0x00AF9F000000FFFF}  #: code of DPL 0, at 0x38 of the GDT


def conforming(code: bytes, width: str, vector: int) -> Guest:
    """A guest at privilege level 3 whose handler of `vector` lies in conforming code."""
    gate = WIDTHS[width][2](handler(vector), selector=0x38)
    guest = user(code, width, {vector: gate})
    guest.memory[GDT + 0x38] = struct.pack("<Q", CONFORMING[width])
    return guest


def at_handler(machine: Machine, vector: int) -> dict[str, int]:
    """The registers at the first instruction of a handler; HLT itself is not for ring 3."""
    stop = finish(machine, checkpoints={handler(vector): "handler"})
    assert stop.checkpoint == "handler", stop.detail
    return dict(stop.registers)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_conforming_handler_keeps_the_privilege(width: str, machine: Make) -> None:
    one = machine(conforming(b"\x0f\x0b", width, 6))
    registers = at_handler(one, 6)
    size = struct.calcsize(WIDTHS[width][1])
    words = 5 if width == "64" else 3  # without a change of privilege only long mode pushes SS and RSP
    assert (registers["cpl"], registers["cs"], registers["ss"]) == (3, 0x3B, 0x33)
    assert registers["rsp"] == STACK - words * size


@pytest.mark.parametrize("width", WIDTHS)
def test_a_frame_of_ring_3_is_pushed_with_the_rights_of_ring_3(width: str, machine: Make) -> None:
    guest = conforming(b"\x0f\x0b", width, 6)
    if width == "64":
        guest.state["registers"] = {"rsp": 0x700000}
        guest.memory[TABLES + 0x2000 + 3 * 8] = struct.pack("<Q", 3 << 21 | 0x83)  # for ring 0 alone
    else:
        guest.code = guest.code.replace(b"\x68\x00\x00\x09\x00", b"\x68\x00\x00\x70\x00")  # push 0x700000
        guest.state |= {"cr0": 0x8000_0011, "cr3": TABLES, "cr4": 0x10}
        guest.memory[TABLES] = struct.pack("<II", 0x87, 1 << 22 | 0x83)  # the second for ring 0 alone
    one = machine(guest)
    assert arrived(one) == 14
    size = (5 if width == "64" else 3) * struct.calcsize(WIDTHS[width][1])
    assert (frame(one, WIDTHS[width][1], 1), one.get("cr2")) == ([7], 0x700000 - size)


STACK_SEGMENTS = {  # SS0 of the task state: the vector raised, and its error code
    "null": (0, 10, 0),
    "a selector with RPL 3": (0x1B, 10, 0x18),
    "a segment of ring 3": (0x30, 10, 0x30),
    "code": (0x10, 10, 0x10),
    "data that cannot be written": (0x48, 10, 0x48),
    "data that is not present": (0x40, 12, 0x40),
    "beyond the GDT": (0x50, 10, 0x50),
}


@pytest.mark.parametrize("name", STACK_SEGMENTS)
def test_a_stack_segment_that_cannot_be_used_is_a_fault(name: str, machine: Make) -> None:
    selector, vector, error = STACK_SEGMENTS[name]
    guest = conforming(b"\xcd\x42", "32", vector)
    guest.memory |= {
        TSS + 8: bytes([selector]),
        IDT + 0x42 * 8: gate32(handler(0x42), 0xEE),
        GDT + 0x48: struct.pack("<QQ", 0x00CF91000000FFFF, 0x00CF93000000FFFF),
    }
    guest.state["gdtr"] = TableRegister(GDT, 0x4F)
    one = machine(guest)
    at_handler(one, vector)
    assert frame(one, "I", 2) == [error, CODE + 0x80]
