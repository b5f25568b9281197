"""What a gate must lead to: limits, descriptors and the task state, and the fault where one of them is wrong.

Source of the frames and error codes: Intel SDM volume 3A, 6.12 to 6.14.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor, TableRegister
from exception_frames import WIDTHS, Make, arrived, frame, user
from machine_guests import (
    CODE,
    DESCRIPTORS,
    GDT,
    IDT,
    IST1,
    STACK,
    TSS,
    Guest,
    finish,
    gate32,
    gate64,
    handler,
    long_guest,
    protected_guest,
)

BAD_GATES = {  # of int 0x42: gate kind and selector (32-bit, 64-bit), the vector raised, its error code
    "not present": ((0x0E, 0x10), (0x0E, 0x08), 11, 0x42 * 8 + 2),
    "no gate at all": ((0x80, 0x10), (0x80, 0x08), 13, 0x42 * 8 + 2),
    "a null selector": ((0x8E, 0), (0x8E, 0), 13, 0),
    "a data segment": ((0x8E, 0x18), (0x8E, 0x18), 13, 0x18),
    "beyond the GDT": ((0x8E, 0x50), (0x8E, 0x50), 13, 0x50),
    "an LDT that is not there": ((0x8E, 0x14), (0x8E, 0x14), 13, 0x14),
    "a segment that is less privileged": ((0x8E, 0x28), (0x8E, 0x20), 13, None),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", BAD_GATES)
def test_a_gate_that_cannot_be_used_is_a_fault_of_its_own(name: str, width: str, machine: Make) -> None:
    narrow, wide, vector, error = BAD_GATES[name]
    make, letter, gate = WIDTHS[width]
    kind, selector = wide if width == "64" else narrow
    one = machine(make(b"\x90\xcd\x42", gates={0x42: gate(handler(0x42), kind, selector=selector)}))
    assert arrived(one) == vector
    assert frame(one, letter, 2) == [selector if error is None else error, CODE + 1]


@pytest.mark.parametrize(("selector", "kind"), [(0x10, "32-bit code"), (0x38, "both L and D")])
def test_a_gate_of_long_mode_leads_to_64_bit_code(selector: int, kind: str, machine: Make) -> None:
    one = machine(long_guest(b"\xcd\x42", gates={0x42: gate64(handler(0x42), selector=selector)}))
    assert arrived(one) == 13
    assert frame(one, "Q", 1) == [selector]


def test_a_gate_of_long_mode_has_a_canonical_address(machine: Make) -> None:
    one = machine(long_guest(b"\xcd\x42", gates={0x42: gate64(1 << 47)}))
    assert arrived(one) == 13
    assert frame(one, "Q", 2) == [0, CODE]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_gate_lies_wholly_within_the_idt_limit(width: str, machine: Make) -> None:
    make, letter, _ = WIDTHS[width]
    last = 0x43 * (16 if width == "64" else 8) - 1
    assert arrived(machine(make(b"\xcd\x42", idtr=TableRegister(IDT, last)))) == 0x42
    one = machine(make(b"\xcd\x42", idtr=TableRegister(IDT, last - 1)))
    assert arrived(one) == 13
    assert frame(one, letter, 2) == [0x42 * 8 + 2, CODE]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("limit", "vector"), [(0x4F, 0x42), (0x4E, 13)])
def test_a_descriptor_lies_wholly_within_the_gdt_limit(
    limit: int, vector: int, width: str, machine: Make
) -> None:
    make, letter, gate = WIDTHS[width]
    gates = {0x42: gate(handler(0x42), selector=0x48)}
    guest = make(b"\xcd\x42", gates=gates, gdtr=TableRegister(GDT, limit))
    guest.memory[GDT + 0x48] = struct.pack("<Q", DESCRIPTORS[1 if width == "64" else 2])
    one = machine(guest)
    assert arrived(one) == vector
    if vector == 13:
        assert frame(one, letter, 2) == [0x48, CODE]


def test_a_fault_while_a_fault_is_delivered_says_so(machine: Make) -> None:
    # #UD is benign: the #NP of its gate is served after it, with EXT set, because no instruction asked.
    one = machine(long_guest(b"\x90\x0f\x0b", gates={6: gate64(handler(6), 0x0E)}))
    assert arrived(one) == 11
    assert frame(one, "Q", 2) == [6 * 8 + 2 + 1, CODE + 1]


@pytest.mark.parametrize("limit", [0x2B, 0x32, 0x33])  # IST2 lies at 0x2C–0x33
@pytest.mark.parametrize(("code", "external"), [(b"\xcd\x42", 0), (b"\x0f\x0b", 1)], ids=["int n", "fault"])
def test_a_task_state_that_is_too_short_is_a_fault(
    code: bytes, external: int, limit: int, machine: Make
) -> None:
    gates = {vector: gate64(handler(vector), ist=2) for vector in (6, 0x42)}
    guest = long_guest(code, gates=gates, memory={TSS + 0x2C: struct.pack("<Q", IST1)})
    guest.state["tr"] = replace(guest.state["tr"], limit=limit)
    one = machine(guest)
    if limit == 0x33:
        assert (arrived(one), one.get("rsp")) == (6 if external else 0x42, IST1 - 40)
    else:
        assert (arrived(one), frame(one, "Q", 2)) == (10, [0x48 | external, CODE])


def test_a_task_state_that_is_not_present_is_a_fault(machine: Make) -> None:
    guest = long_guest(b"\x0f\x0b", gates={6: gate64(handler(6), ist=1)})
    guest.state["tr"] = replace(guest.state["tr"], attributes=0x0B)
    one = machine(guest)
    assert arrived(one) == 10
    assert frame(one, "Q", 2) == [0x48 | 1, CODE]


def test_a_16_bit_gate_pushes_words(machine: Make) -> None:
    guest = protected_guest(b"", gates={0x42: gate32(0x8000, 0x86)})
    guest.memory |= {0x8000: b"\xf4", 0x9000: b"\xcd\x42"}
    guest.state["ip"] = 0x9000
    one = machine(guest)
    assert finish(one).ip == 0x8001
    assert (one.get("rsp"), frame(one, "H", 3)) == (STACK - 6, [0x9002, 0x10, 2])


ACCESSED = 1 << 40  #: of a code or data descriptor (SDM 3A, 3.4.5.1)


def unused(guest: Guest) -> Guest:
    """The guest, with no descriptor's accessed bit set."""
    descriptors = struct.unpack(f"<{len(DESCRIPTORS)}Q", guest.memory[GDT])
    guest.memory[GDT] = b"".join(struct.pack("<Q", one & ~ACCESSED) for one in descriptors)
    return guest


def accessed(machine: Machine) -> list[int]:
    """The selectors whose descriptors have the bit."""
    return [at for at in range(8, 8 * len(DESCRIPTORS), 8) if machine.read_physical(GDT + at + 5, 1)[0] & 1]


@pytest.mark.parametrize(("width", "code"), [("32", 0x10), ("64", 0x08)])
def test_a_delivery_sets_the_accessed_bit_of_what_it_loads(width: str, code: int, machine: Make) -> None:
    one = machine(unused(WIDTHS[width][0](b"\x0f\x0b")))
    assert arrived(one) == 6
    assert accessed(one) == [code]


def test_a_stack_of_another_privilege_is_accessed_too(machine: Make) -> None:
    guest = unused(user(b"\x0f\x0b", "32"))
    guest.memory[TSS + 8] = b"\x40"  # SS0
    guest.memory[GDT + 0x40] = struct.pack("<Q", 0x00CF92000000FFFF)
    one = machine(guest)
    assert arrived(one) == 6
    assert accessed(one) == [0x10, 0x40]


def test_a_handler_s_segment_may_lie_in_the_ldt(machine: Make) -> None:
    guest = long_guest(b"\x0f\x0b", gates={6: gate64(handler(6), selector=0x0C)})
    guest.state["ldtr"] = Descriptor(0x50, 0x6000, 0xF, 0x82)
    guest.memory[0x6008] = struct.pack("<Q", 0x00AF9A000000FFFF)
    one = machine(guest)
    assert arrived(one) == 6
    assert (one.get("cs"), one.read_physical(0x600D, 1)) == (0x0C, b"\x9b")


def test_a_segment_that_cannot_be_used_is_not_accessed(machine: Make) -> None:
    gates = {6: gate64(handler(6), selector=0x10), 13: gate64(handler(13), selector=0x48)}
    guest = unused(long_guest(b"\x0f\x0b", gates=gates, gdtr=TableRegister(GDT, 0x4F)))
    guest.memory[GDT + 0x48] = struct.pack("<Q", 0x00AF9B000000FFFF)
    one = machine(guest)
    assert arrived(one) == 13
    assert accessed(one) == []


def test_the_tables_lie_where_the_registers_say(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x42", idtr=TableRegister(0x6000, 0x7FF))
    guest.memory[0x6000 + 0x42 * 8] = gate32(CODE + 0x80)
    guest.memory[CODE + 0x80] = b"\xf4"
    assert finish(machine(guest)).ip == CODE + 0x81
