"""Exceptions and interrupts arrive through the guest's own IDT, with the frame that the SDM draws.

Source of the frames and error codes: Intel SDM volume 3A, 6.12 to 6.14.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bootbuild.machine.delivery import Delivery
from bootbuild.model.trace import StopKind
from exception_frames import IF, RF, WIDTHS, Make, arrived, frame, user
from machine_guests import (
    CODE,
    IST1,
    KERNEL_DATA,
    STACK,
    TABLES,
    finish,
    gate64,
    handler,
    long_guest,
    protected_guest,
)

ABSENT = 0x4000_0000  #: linear, not mapped by `identity`

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


@pytest.mark.parametrize("vector", sorted({8, 10, 11, 12, 13, 14, 17, 21}))
def test_these_exceptions_push_an_error_code(vector: int, machine: Make) -> None:
    # The engine raises neither #AC nor #CP; SDM 3A, table 6-1 says how they would come.
    one = machine(long_guest(b"\xf4"))
    Delivery(one._board).exception(vector, 0x1234)
    assert arrived(one) == vector
    assert frame(one, "Q", 2) == [0x1234, CODE]


def test_a_stack_segment_with_b_clear_takes_the_frame_at_sp(machine: Make) -> None:
    guest = protected_guest(b"\xcd\x42")
    guest.state |= {"ss": replace(KERNEL_DATA, attributes=0x8093), "registers": {"rsp": 0xA0004}}
    one = machine(guest)
    assert arrived(one) == 0x42
    assert one.get("rsp") == 0xAFFF8
    assert one.read(0xFFF8, 8) == struct.pack("<II", CODE + 2, 0x10)
