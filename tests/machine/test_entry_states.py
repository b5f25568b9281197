"""The guest finds exactly the state that its scene asks for, hidden descriptors included."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor, EntryState, TableRegister
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    GDT,
    KERNEL32,
    KERNEL64,
    KERNEL_DATA,
    Guest,
    finish,
    identity,
    long,
    long_guest,
    protected,
    protected_guest,
    scene,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

NAMES = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
VALUES = {name: 0x8899_AABB_0000_0000 + 0x1111 * (at + 1) for at, name in enumerate(NAMES)}
REAL = {
    "cr0": 0x10,
    "cs": Descriptor(0x1000, 0x10000, 0xFFFF, 0x9B),
    "ds": Descriptor(0x2000, 0x20000, 0xFFFF, 0x93),
    "es": Descriptor(0x3000, 0x30000, 0xFFFF, 0x93),
    "ss": Descriptor(0x4000, 0x40000, 0xFFFF, 0x93),
    "fs": Descriptor(0x5000, 0x50000, 0xFFFF, 0x93),
    "gs": Descriptor(0x6000, 0x60000, 0xFFFF, 0x93),
    "idtr": TableRegister(0, 0x3FF),
    "ip": 0x10,
}


def real(code: bytes, **more: Any) -> Guest:
    """A guest in real mode, at 1000:0010, with a different base in each segment."""
    return Guest(b"", "real16", {**REAL, **more}, {0x10010: code})


def test_the_first_instruction_sees_every_general_register(machine: Make) -> None:
    one = machine(long_guest(b"\xf4", registers={**VALUES, "rflags": 0xCD7}))
    stop = finish(one)
    assert {name: stop.registers[name] for name in NAMES} == VALUES
    assert stop.registers["rflags"] == 0xCD7


@pytest.mark.parametrize(
    ("mode", "state", "memory"),
    [
        ("real16", REAL, {0x10010: b"\xf4"}),
        ("protected32", protected(), tables(False)),
        ("long64", long(), tables(True) | identity()),
    ],
    ids=["real16", "protected32", "long64"],
)
def test_registers_that_are_not_named_are_zero(
    mode: str, state: dict[str, Any], memory: dict[int, bytes], machine: Make
) -> None:
    stop = finish(machine(Guest(b"\xf4", mode, {**state, "registers": {}}, memory)))
    assert stop.kind is StopKind.HALTED
    assert [stop.registers[name] for name in NAMES] == [0] * 16
    assert stop.registers["rflags"] == 2


def test_real_mode_has_the_bases_and_sizes_asked_for(machine: Make) -> None:
    code = (
        b"\xa1\x00\x00"  # mov ax,[0]
        b"\x26\x8b\x1e\x00\x00"  # mov bx,es:[0]
        b"\x36\x8b\x0e\x00\x00"  # mov cx,ss:[0]
        b"\x64\x8b\x16\x00\x00"  # mov dx,fs:[0]
        b"\x65\x8b\x36\x00\x00"  # mov si,gs:[0]
        b"\x8c\xcf"  # mov di,cs
        b"\x1e"  # push ds
        b"\xf4"  # hlt
    )
    guest = real(code, registers={"rsp": 0xFFFF_0100})
    guest.memory |= {at: struct.pack("<H", at >> 16) for at in range(0x20000, 0x70000, 0x10000)}
    one = machine(guest)
    stop = finish(one)
    assert [stop.registers[name] for name in ("rax", "rbx", "rcx", "rdx", "rsi")] == [2, 3, 4, 5, 6]
    assert (stop.registers["rdi"], stop.ip, stop.registers["cr0"]) == (0x1000, 0x10010 + len(code), 0x10)
    assert stop.registers["rsp"] == 0xFFFF_00FE  # SP, not ESP
    assert one.read_physical(0x400FE, 2) == b"\x00\x20"


def test_a_real_mode_base_need_not_be_16_times_the_selector(machine: Make) -> None:
    # As after reset: CS selector F000 with base FFFF0000.
    guest = real(b"", cs=Descriptor(0xF000, 0x50000, 0xFFFF, 0x9B), ip=0)
    guest.memory[0x50000] = b"\x8c\xc8\xe8\x00\x00\x5b\xf4"  # mov ax,cs; call next; next: pop bx; hlt
    stop = finish(machine(guest))
    assert (stop.registers["rax"], stop.registers["rbx"], stop.ip) == (0xF000, 5, 0x50007)


def test_protected_mode_uses_the_hidden_parts_without_a_gdt(machine: Make) -> None:
    guest = Guest(
        (
            b"\xa1\x10\x00\x00\x00"  # mov eax,[0x10]
            b"\x26\x8b\x0d\x10\x00\x00\x00"  # mov ecx,es:[0x10]
            b"\x64\x8b\x15\x10\x00\x00\x00"  # mov edx,fs:[0x10]
            b"\x2e\x8b\x1d\x00\x10\x00\x00"  # mov ebx,cs:[0x1000]
            b"\xf4"  # hlt
        ),
        state={
            "cs": replace(KERNEL32, selector=0x1234, base=0x1000),
            "ds": replace(KERNEL_DATA, base=0x2000),
            "es": replace(KERNEL_DATA, base=0x3000),
            "fs": replace(KERNEL_DATA, base=0x4000),
            "ip": CODE - 0x1000,
        },
        memory={at + 0x10: struct.pack("<I", at) for at in (0x3000, 0x4000)}
        | {0x2000: struct.pack("<I", 0xC5), 0x2010: struct.pack("<I", 0x2000)},
    )
    stop = finish(machine(guest))
    assert [stop.registers[name] for name in ("rax", "rcx", "rdx", "rbx")] == [0x2000, 0x3000, 0x4000, 0xC5]
    assert (stop.registers["cs"], stop.registers["gdtr_limit"], stop.registers["cr0"]) == (0x1234, 0, 0x11)


def test_operand_size_is_what_d_says(machine: Make) -> None:
    state = protected(cs=replace(KERNEL32, attributes=0x809B))
    stop = finish(
        machine(Guest(b"\xb8\x11\x11\x50\xf4", "protected32", state, tables(False)))
    )  # mov ax; push; hlt
    assert (stop.registers["rax"], stop.registers["rsp"], stop.ip) == (0x1111, 0x8FFFE, CODE + 5)


def test_a_stack_segment_with_b_clear_uses_sp(machine: Make) -> None:
    state = protected(ss=replace(KERNEL_DATA, attributes=0x8093), registers={"rsp": 0x70000})
    one = machine(Guest(b"\x50\xf4", "protected32", state, tables(False)))  # push eax; hlt
    assert finish(one).registers["rsp"] == 0x7FFFC


def test_control_and_table_registers_are_what_was_asked_for(machine: Make) -> None:
    state = long(
        cr4=0x6A0,
        efer=0x501,
        gdtr=TableRegister(0xFFFF_8000_0000_1000, 0x4F),
        idtr=TableRegister(0xFFFF_8000_0000_2000, 0xFFF),
    )
    code = (
        b"\x0f\x20\xc0"  # mov rax,cr0
        b"\x0f\x20\xdb"  # mov rbx,cr3
        b"\x0f\x20\xe2"  # mov rdx,cr4
        b"\x0f\x01\x04\x25\x00\x00\x09\x00"  # sgdt [0x90000]
        b"\x0f\x01\x0c\x25\x10\x00\x09\x00"  # sidt [0x90010]
        b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
        b"\x0f\x32"  # rdmsr
        b"\xf4"  # hlt
    )
    stop = finish(machine(Guest(code, "long64", state, tables(True) | identity())))
    values = [stop.registers[name] for name in ("rbx", "rcx", "cr0", "cr4", "efer", "gdtr", "gdtr_limit")]
    assert values == [0x10000, 0xC0000080, 0x8000_0031, 0x6A0, 0x501, 0xFFFF_8000_0000_1000, 0x4F]
    assert stop.registers["rax"] == 0x501
    assert (stop.registers["idtr"], stop.registers["idtr_limit"]) == (0xFFFF_8000_0000_2000, 0xFFF)


def test_sgdt_and_sidt_store_the_table_registers(machine: Make) -> None:
    one = machine(
        long_guest(
            b"\x0f\x01\x04\x25\x00\x00\x09\x00"  # sgdt [0x90000]
            b"\x0f\x01\x0c\x25\x10\x00\x09\x00"  # sidt [0x90010]
            b"\xf4"  # hlt
        )
    )
    finish(one)
    assert one.read(0x90000, 10) == struct.pack("<HQ", 0x47, 0x1000)
    assert one.read(0x90010, 10) == struct.pack("<HQ", 0xFFF, 0x2000)


def test_long_mode_runs_64_bit_code_with_fs_and_gs_bases(machine: Make) -> None:
    state = long(
        fs=Descriptor(0x18, 0x92000, 0xFFFFFFFF, 0xC093), gs=Descriptor(0, 0x93000, 0xFFFFFFFF, 0xC093)
    )
    memory = tables(True) | identity() | {0x92000: b"\x11", 0x93000: b"\x22"}
    code = (
        b"\x64\x8a\x04\x25\x00\x00\x00\x00"  # mov al,fs:[0]
        b"\x65\x8a\x1c\x25\x00\x00\x00\x00"  # mov bl,gs:[0]
        b"\x66\x8c\xe1"  # mov cx,fs
        b"\x49\xb8\x88\x77\x66\x55\x44\x33\x22\x11"  # mov r8,0x1122334455667788
        b"\xf4"  # hlt
    )
    stop = finish(machine(Guest(code, "long64", state, memory)))
    assert [stop.registers[name] for name in ("rax", "rbx", "rcx")] == [0x11, 0x22, 0x18]
    assert (stop.registers["r8"], stop.registers["cpl"]) == (0x1122_3344_5566_7788, 0)


def test_user_mode_is_privilege_level_3(machine: Make) -> None:
    guest = Guest(
        b"\x66\x8c\xc8\xf4", "long64-user", long(True), tables(True) | identity(True)
    )  # mov ax, cs; hlt
    stop = finish(machine(guest))
    assert stop.registers["rax"] == 0x23
    assert (stop.ip, stop.registers["cpl"]) == (0x102000 + 13 + 1, 0)  # HLT is not allowed: #GP, into ring 0


def test_the_task_register_is_loaded(machine: Make) -> None:
    one = machine(
        protected_guest(
            (
                b"\x0f\x00\xc8"  # str eax
                b"\x0f\x00\xc3"  # sldt ebx
                b"\xf4"  # hlt
            ),
            ldtr=Descriptor(0x50, 0x5000, 0x1F, 0x82),
        )
    )
    stop = finish(one)
    assert (stop.registers["rax"], stop.registers["rbx"], stop.registers["tr"]) == (0x48, 0x50, 0x48)


def test_the_local_descriptor_table_is_used(machine: Make) -> None:
    guest = protected_guest(
        (
            b"\xb8\x0c\x00\x00\x00"  # mov eax,0xc
            b"\x8e\xd8"  # mov ds,eax
            b"\xa0\x00\x00\x00\x00"  # mov al,[0]
            b"\xf4"  # hlt
        ),
        ldtr=Descriptor(0x50, 0x5000, 0x1F, 0x82),
    )
    guest.memory |= {0x5008: struct.pack("<Q", 0x00CF93090000FFFF), 0x90000: b"\x5a"}
    assert finish(machine(guest)).registers["rax"] == 0x5A


def test_a_selector_beyond_the_gdt_limit_is_a_general_protection_fault(machine: Make) -> None:
    guest = protected_guest(
        b"\xb8\x18\x00\x00\x00\x8e\xd8\xf4", gdtr=TableRegister(GDT, 0x17)
    )  # mov ds, 0x18
    one = machine(guest)
    assert finish(one).kind is StopKind.HALTED
    assert one.read(one.get("rsp"), 4) == struct.pack("<I", 0x18)


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "real mode with PE": ("real16", {"cr0": 0x11}, "CR0.PE"),
    "protected mode without PE": ("protected32", {"cr0": 0x10}, "CR0.PE"),
    "long mode without paging": ("long64", {**long(), "cr0": 0x31}, "CR0.PG, CR4.PAE or EFER.LME"),
    "long mode without PAE": ("long64", {**long(), "cr4": 0x600}, "CR0.PG, CR4.PAE or EFER.LME"),
    "long mode without LME": ("long64", {**long(), "efer": 0}, "CR0.PG, CR4.PAE or EFER.LME"),
    "long mode with 32-bit code": ("long64", {**long(), "cs": KERNEL32}, "CS.L"),
    "protected mode with 64-bit code": ("protected32", {"cs": KERNEL64}, "CS.L"),
    "a register that does not exist": ("protected32", {"registers": {"eax": 1}}, "no such register: eax"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_that_no_processor_can_be_in_is_refused(name: str) -> None:
    mode, state, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        Machine(replace(scene(Guest(b"\xf4")), state=EntryState(mode, CODE, **state)))  # type: ignore[arg-type]
