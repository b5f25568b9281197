"""Code segments and task registers: which descriptors are none, and what is raised for them."""

from __future__ import annotations

import struct

import pytest

from bootbuild.model.machine import Descriptor, TableRegister
from bootbuild.model.trace import StopKind
from machine_guests import CODE, GDT, HANDLERS, Guest, finish, long_guest, protected, tables
from strictness import L_AND_D, Make


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


LTR = {
    "of a null selector": (b"\x31\xc0\x0f\x00\xd8", 13),  # xor eax,eax; ltr ax
    "of a null selector with RPL": (b"\xb8\x03\x00\x00\x00\x0f\x00\xd8", 13),  # mov eax,3; ltr ax
    "of a null selector in memory": (b"\x0f\x00\x1e\x0f\x0b", 13),  # ltr [rsi]; ud2
    "of a code segment": (b"\xb8\x08\x00\x00\x00\x0f\x00\xd8", 13),  # mov eax,8; ltr ax
    "of a task": (b"\xb8\x48\x00\x00\x00\x0f\x00\xd8\x0f\x0b", 6),  # mov eax,0x48; ltr ax; ud2
    "LLDT of a null selector": (b"\x31\xc0\x0f\x00\xd0\x0f\x0b", 6),  # xor eax,eax; lldt ax; ud2
}


@pytest.mark.parametrize("name", LTR)
def test_a_null_selector_names_no_task(name: str, machine: Make) -> None:
    code, vector = LTR[name]
    made = long_guest(code, gdtr=TableRegister(GDT, 8 * 11 - 1), registers={"rsi": 0x200008})
    made.memory[GDT] += struct.pack("<QQ", 0x0000_8900_4000_0067, 0)  # 48: the TSS at 0x4000
    assert finish(machine(made)).ip == HANDLERS + vector + 1


def test_in_real_mode_there_is_no_ltr(machine: Make) -> None:
    state = {
        "ip": 0,
        "cr0": 0x10,
        "cs": Descriptor(0x2000, 0x20000, 0xFFFF, 0x9B),
        "idtr": TableRegister(0, 0x3FF),
        "registers": {"rsp": 0x8000},
    }
    vectors = b"".join(struct.pack("<HH", 0x10 if vector == 6 else 0x20, 0x2000) for vector in range(16))
    one = machine(
        Guest(
            b"",
            "real16",
            state,
            {0x20000: b"\x31\xc0\x0f\x00\xd8", 0x20010: b"\xf4" * 17, 0: vectors},
        )
    )
    assert finish(one).ip == 0x20011
