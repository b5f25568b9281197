"""Exceptions and interrupts arrive through the guest's own IDT, with the frame that the SDM draws.

Source of the frames and error codes: Intel SDM volume 3A, 6.12 to 6.14.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bootbuild.machine.delivery import Delivery
from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor, TableRegister
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    DESCRIPTORS,
    GDT,
    HANDLERS,
    IDT,
    IST1,
    KERNEL_DATA,
    STACK,
    STACK0,
    TABLES,
    TSS,
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
Maker = Callable[..., Guest]

RF, IF = 0x10000, 0x200
ABSENT = 0x4000_0000  #: linear, not mapped by `identity`
WIDTHS: dict[str, tuple[Maker, str, Callable[..., bytes]]] = {
    "32": (protected_guest, "I", gate32),
    "64": (long_guest, "Q", gate64),
}


def frame(machine: Machine, letter: str, count: int) -> list[int]:
    """The topmost words of the stack."""
    return list(
        struct.unpack(f"<{count}{letter}", machine.read(machine.get("rsp"), count * struct.calcsize(letter)))
    )


def arrived(machine: Machine, **more: Any) -> int:
    """Run; the vector at whose handler (a HLT) the guest stands."""
    stop = finish(machine, **more)
    assert stop.kind is StopKind.HALTED, stop.detail
    return int(stop.ip - 1 - HANDLERS)


FAULTS = {  # code (the same in both widths), vector, offset of the instruction, error code
    "#DE by div": (b"\x31\xc9\xf7\xf1", 0, 2, None),  # xor ecx, ecx; div ecx
    "#UD by ud2": (b"\x90\x0f\x0b", 6, 1, None),
    "#UD by vmcall without a hypervisor": (b"\x0f\x01\xc1", 6, 0, None),
    "#UD by vmmcall without a hypervisor": (b"\x0f\x01\xd9", 6, 0, None),
    "#UD by rdrand": (b"\x0f\xc7\xf0", 6, 0, None),
    "#UD by rdseed": (b"\x90\x0f\xc7\xf8", 6, 1, None),
    "#NM by TS": (b"\x0f\x20\xc0\x0c\x08\x0f\x22\xc0\xd9\xe8", 7, 8, None),  # mov to CR0 with TS; fld1
    "#GP by a selector beyond the GDT": (b"\xb8\x78\x56\x00\x00\x8e\xd8", 13, 5, 0x5678),  # mov ds, 0x5678
    "#NP by a segment that is not present": (b"\xb8\x40\x00\x00\x00\x8e\xd8", 11, 5, 0x40),
    "#SS by a stack that is not present": (b"\xb8\x40\x00\x00\x00\x8e\xd0", 12, 5, 0x40),
    "#GP by an SS of another privilege": (b"\xb8\x33\x00\x00\x00\x8e\xd0", 13, 5, 0x30),
    "#GP by ltr of no TSS": (b"\xb8\x18\x00\x00\x00\x0f\x00\xd8", 13, 5, 0x18),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stands_at_its_instruction(name: str, width: str, machine: Make) -> None:
    code, vector, at, error = FAULTS[name]
    make, letter, _ = WIDTHS[width]
    selector = 0x10 if width == "32" else 0x08
    one = machine(make(code))
    assert arrived(one) == vector
    expected = ([] if error is None else [error]) + [CODE + at, selector]
    *head, flags = frame(one, letter, len(expected) + 1)
    assert head == expected
    assert flags & (RF | 2) == RF | 2
    assert one.get("rflags") & RF == 0


SOFTWARE = {  # code, vector, offset of the return address
    "int n": (b"\xcd\x42\x90", 0x42, 2),
    "int3": (b"\xcc\x90", 3, 1),
    "int 13, without an error code": (b"\xcd\x0d\x90", 13, 2),
    "#DB by TF, after the instruction": (b"\x9c\x58\x80\xcc\x01\x50\x9d\x90\x90", 1, 8),  # … popf; nop; nop
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SOFTWARE)
def test_a_trap_stands_after_its_instruction(name: str, width: str, machine: Make) -> None:
    code, vector, at = SOFTWARE[name]
    make, letter, _ = WIDTHS[width]
    one = machine(make(code))
    assert arrived(one) == vector
    ip, _, flags = frame(one, letter, 3)
    assert (ip, flags & RF) == (CODE + at, 0)


def test_into_is_a_trap_of_32_bit_code(machine: Make) -> None:
    one = machine(
        protected_guest(
            b"\xb8\xff\xff\xff\x7f"  # mov eax,0x7fffffff
            b"\x40"  # inc eax
            b"\xce"  # into
            b"\x90"  # nop
        )
    )
    assert arrived(one) == 4
    assert frame(one, "I", 1) == [CODE + 7]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("kind", "left"), [(0x8E, 0), (0x8F, IF)], ids=["interrupt gate", "trap gate"])
def test_only_an_interrupt_gate_clears_if(kind: int, left: int, width: str, machine: Make) -> None:
    make, letter, gate = WIDTHS[width]
    one = machine(make(b"\xcd\x42", gates={0x42: gate(CODE + 0x80, kind)}, registers={"rflags": 0x4202}))
    one.write_physical(CODE + 0x80, b"\x90\xfa\xf4")  # nop; cli; hlt
    assert finish(one, checkpoints={CODE + 0x80: "handler"}).registers["rflags"] == 2 | left
    assert frame(one, letter, 3)[2] == 0x4202  # NT is kept in the frame and cleared in the handler


@pytest.mark.parametrize("width", WIDTHS)
def test_iret_goes_back(width: str, machine: Make) -> None:
    make, _, gate = WIDTHS[width]
    back = b"\x48\xcf" if width == "64" else b"\xcf"
    one = machine(make(b"\xcd\x42\x43\x43\xf4", gates={0x42: gate(CODE + 0x80)}, registers={"rflags": 0xAD7}))
    one.write_physical(CODE + 0x80, b"\x31\xc0" + back)  # xor eax, eax; iret
    stop = finish(one)
    assert (stop.kind, stop.ip, stop.registers["rsp"]) == (StopKind.IDLE, CODE + 5, STACK)
    assert stop.registers["rflags"] & IF


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("access", "code", "error"),
    [
        ("read", b"\xa1\x08\x00\x00\x40", 0),  # mov eax, [ABSENT + 8]
        ("write", b"\xa3\x08\x00\x00\x40", 2),
    ],
)
def test_a_page_fault_has_cr2_and_its_error_code(
    access: str, code: bytes, error: int, width: str, machine: Make
) -> None:
    letter = WIDTHS[width][1]
    if width == "64":
        guest = long_guest(code + bytes(4))  # the offset has 64 bits there
    else:
        guest = protected_guest(code, cr0=0x8000_0011, cr3=TABLES, cr4=0x10)
        guest.memory[TABLES] = b"".join(struct.pack("<I", at << 22 | 0x83) for at in range(4))
    one = machine(guest)
    assert arrived(one) == 14
    assert (one.get("cr2"), frame(one, letter, 2)) == (ABSENT + 8, [error, CODE])


# -- privilege ---------------------------------------------------------------------------------------


def user(code: bytes, width: str, gates: dict[int, bytes] | None = None) -> Guest:
    """A guest at privilege level 3."""
    if width == "64":
        return Guest(code, "long64-user", long(True), tables(True, gates) | identity(True))
    # There is no entry state for 32-bit ring 3: the guest goes there itself.
    guest = protected_guest(
        (
            b"\x6a\x33"  # push 0x33
            b"\x68\x00\x00\x09\x00"  # push 0x90000
            b"\x68\x02\x02\x00\x00"  # push 0x202
            b"\x6a\x2b"  # push 0x2b
            b"\x68\x80\x00\x10\x00"  # push 0x100080
            b"\xcf"  # iret
        ),
        gates=gates,
    )
    guest.memory[CODE + 0x80] = code
    return guest


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


# -- stacks of long mode -----------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["kernel", "user"])
def test_an_ist_stack_is_used_whatever_the_privilege(level: str, machine: Make) -> None:
    gates = {6: gate64(handler(6), ist=1)}
    one = machine(user(b"\x0f\x0b", "64", gates) if level == "user" else long_guest(b"\x0f\x0b", gates=gates))
    assert arrived(one) == 6
    assert one.get("rsp") == IST1 - 40
    assert frame(one, "Q", 4)[3] == STACK


def test_the_stack_is_aligned_in_long_mode_and_kept_in_the_frame(machine: Make) -> None:
    one = machine(long_guest(b"\x0f\x0b", registers={"rsp": STACK - 3}))
    assert arrived(one) == 6
    assert (one.get("rsp"), frame(one, "Q", 4)[3]) == (STACK - 16 - 40, STACK - 3)


def test_ss_is_kept_where_the_privilege_is(machine: Make) -> None:
    one = machine(long_guest(b"\x0f\x0b"))
    assert arrived(one) == 6
    assert (one.get("ss"), frame(one, "Q", 5)[4]) == (0x18, 0x18)


# -- gates that cannot be used -----------------------------------------------------------------------

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


@pytest.mark.parametrize("vector", sorted({8, 10, 11, 12, 13, 14, 17, 21}))
def test_these_exceptions_push_an_error_code(vector: int, machine: Make) -> None:
    # The engine raises neither #AC nor #CP; SDM 3A, table 6-1 says how they would come.
    one = machine(long_guest(b"\xf4"))
    Delivery(one._board).exception(vector, 0x1234)
    assert arrived(one) == vector
    assert frame(one, "Q", 2) == [0x1234, CODE]


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


def test_a_stack_segment_with_b_clear_takes_the_frame_at_sp(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x42")
    guest.state |= {"ss": replace(KERNEL_DATA, attributes=0x8093), "registers": {"rsp": 0xA0004}}
    one = machine(guest)
    assert arrived(one) == 0x42
    assert one.get("rsp") == 0xAFFF8
    assert one.read(0xFFF8, 8) == struct.pack("<II", CODE + 2, 0x10)


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


def real_guest(code: bytes, limit: int, flags: int) -> Guest:
    """A guest in real mode at 0x1000:0, whose IVT leads vector 0x21 to 0x9000:0x34 and #GP to 0x9000:0x40."""
    guest = Guest(code, "real16", {"cr0": 0x10, "ip": 0})
    guest.state |= {
        "cs": replace(KERNEL_DATA, selector=0x1000, base=CODE, attributes=0x9B),
        "ss": replace(KERNEL_DATA, selector=0x7000, base=0x70000, attributes=0x93),
        "registers": {"rsp": 0x100, "rflags": flags},
        "idtr": TableRegister(0, limit),
    }
    guest.memory = {
        0x21 * 4: struct.pack("<HH", 0x34, 0x9000),
        13 * 4: struct.pack("<HH", 0x40, 0x9000),
        0x90034: b"\xb8\x22\x11\xcf",  # mov ax, 0x1122; iret
        0x90040: b"\xf4",
    }
    return guest


def test_a_real_mode_interrupt_uses_the_vector_table(machine: Make) -> None:
    guest = real_guest(b"\xcd\x21\x43\xf4", 0x3FF, 0x202)  # int 0x21; inc bx; hlt
    one = machine(guest)
    stop = finish(one, checkpoints={0x90034: "handler"})
    assert (stop.checkpoint, stop.registers["rflags"], stop.registers["cs"]) == ("handler", 2, 0x9000)
    assert one.read_physical(0x700FA, 6) == struct.pack("<3H", 2, 0x1000, 0x202)
    one.write_physical(0x10000, b"\x43\xf4")
    stop = finish(one, checkpoints={0x10002: "back"})
    assert (stop.checkpoint, stop.registers["rax"], stop.registers["rflags"]) == ("back", 0x1122, 0x202)


def test_a_real_mode_handler_starts_without_if_tf_rf_and_ac(machine: Make) -> None:
    one = machine(real_guest(b"\xcd\x21", 0x3FF, 0x50202))  # AC, RF and IF
    stop = finish(one, checkpoints={0x90034: "handler"})
    assert (stop.checkpoint, stop.registers["rflags"]) == ("handler", 2)


@pytest.mark.parametrize(("limit", "ip"), [(0x21 * 4 + 3, 0x90034), (0x21 * 4 + 2, 0x90040)])
def test_a_vector_lies_wholly_within_the_limit_of_real_mode(limit: int, ip: int, machine: Make) -> None:
    stop = finish(machine(real_guest(b"\xcd\x21", limit, 2)), checkpoints={0x90034: "", 0x90040: ""})
    assert (stop.kind, stop.ip) == (StopKind.CHECKPOINT, ip)


def test_the_tables_lie_where_the_registers_say(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x42", idtr=TableRegister(0x6000, 0x7FF))
    guest.memory[0x6000 + 0x42 * 8] = gate32(CODE + 0x80)
    guest.memory[CODE + 0x80] = b"\xf4"
    assert finish(machine(guest)).ip == CODE + 0x81
