"""From real mode to long mode and back, as a kernel does it: each step runs in the mode it says."""

from __future__ import annotations

import struct
from collections.abc import Callable

from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor, TableRegister
from bootbuild.model.trace import StopKind
from machine_guests import CODE, DESCRIPTORS, GDT, STACK, Guest, finish, identity, long_guest, tables

Make = Callable[[Guest | bytes], Machine]

REAL16, PROTECTED, LONG, COMPATIBILITY, BACK = 0x20000, CODE, CODE + 0x100, CODE + 0x200, CODE + 0x300


def far(opcode: bytes, offset: int, selector: int) -> bytes:
    """A far jump with 32-bit offset."""
    return opcode + struct.pack("<IH", offset, selector)


def test_16_to_32_to_64_to_compatibility_mode_and_back(machine: Make) -> None:
    real = (
        b"\x2e\x0f\x01\x16\x80\x00"  # lgdt cs:[0x80]
        b"\x0f\x20\xc0"  # mov eax,cr0
        b"\x0c\x01"  # or al,1
        b"\x0f\x22\xc0"  # mov cr0,eax
    ) + far(b"\x66\xea", PROTECTED, 0x10)
    protected = (
        b"\xb8\x18\x00\x00\x00"  # mov eax,0x18
        b"\x8e\xd8"  # mov ds,eax
        b"\x8e\xc0"  # mov es,eax
        b"\x8e\xd0"  # mov ss,eax
        b"\xbc\x00\x00\x09\x00"  # mov esp,0x90000
        b"\x0f\x20\xe0"  # mov eax,cr4
        b"\x83\xc8\x20"  # or eax,0x20
        b"\x0f\x22\xe0"  # mov cr4,eax
        b"\xb8\x00\x00\x01\x00"  # mov eax,0x10000
        b"\x0f\x22\xd8"  # mov cr3,eax
        b"\xb9\x80\x00\x00\xc0"  # mov ecx,0xc0000080
        b"\x0f\x32"  # rdmsr
        b"\x0d\x00\x01\x00\x00"  # or eax,0x100
        b"\x0f\x30"  # wrmsr
        b"\x0f\x20\xc0"  # mov eax,cr0
        b"\x0d\x00\x00\x00\x80"  # or eax,0x80000000
        b"\x0f\x22\xc0"  # mov cr0,eax
    ) + far(b"\xea", LONG, 0x08)
    to_compatibility = (
        b"\x49\xbf\x88\x77\x66\x55\x44\x33\x22\x11"  # mov r15,0x1122334455667788
        b"\x4c\x89\xff"  # mov rdi,r15
        b"\x6a\x10"  # push 0x10
        b"\x68\x00\x02\x10\x00"  # push 0x100200
        b"\x48\xcb"  # lretq
    )
    compatibility = (
        b"\x43"  # inc ebx
        b"\x50"  # push eax
        b"\x5e"  # pop esi
        b"\x0f\x20\xc0"  # mov eax,cr0
        b"\x25\xff\xff\xff\x7f"  # and eax,0x7fffffff
        b"\x0f\x22\xc0"  # mov cr0,eax
    ) + far(b"\xea", BACK, 0x10)
    guest = Guest(
        protected,
        "real16",
        {
            "ip": 0,
            "cr0": 0x10,
            "cs": Descriptor(0x2000, REAL16, 0xFFFF, 0x9B),
            "ss": Descriptor(0, 0, 0xFFFF, 0x93),
            "registers": {"rsp": 0x8000},
        },
        tables(True)
        | identity()
        | {
            REAL16: real,
            REAL16 + 0x80: struct.pack("<HI", 8 * len(DESCRIPTORS) - 1, GDT),
            LONG: to_compatibility,
            COMPATIBILITY: compatibility,
            BACK: b"\x40\xf4",  # inc eax; hlt
        },
    )
    one = machine(guest)
    points = {PROTECTED: "32", LONG: "64", COMPATIBILITY: "compatibility", BACK: "32 again"}
    assert one.code_width == 16
    seen, widths = [], []
    for _ in points:
        seen.append(finish(one, checkpoints=points))
        widths.append(one.code_width)
    assert widths == [32, 64, 32, 32]
    assert [stop.checkpoint for stop in seen] == list(points.values())
    assert [stop.registers["cs"] for stop in seen] == [0x10, 0x08, 0x10, 0x10]
    assert [stop.registers["cr0"] & 0x8000_0001 for stop in seen] == [1, 0x8000_0001, 0x8000_0001, 1]
    assert [stop.registers["efer"] for stop in seen] == [0, 0x500, 0x500, 0x100]
    assert seen[2].registers["rdi"] == 0x1122_3344_5566_7788
    last = finish(one)
    assert (last.kind, last.ip) == (StopKind.HALTED, BACK + 2)
    assert last.registers["rsp"] == STACK
    assert one.events == ()


def test_leaving_long_mode_for_real_mode(machine: Make) -> None:
    compatibility = (
        b"\x0f\x20\xc0"  # mov eax,cr0
        b"\x25\xff\xff\xff\x7f"  # and eax,0x7fffffff
        b"\x0f\x22\xc0"  # mov cr0,eax
        b"\x0f\x01\x1d\x10\x00\x09\x00"  # lidt [0x90010]
        b"\x25\xfe\xff\xff\x7f"  # and eax,0x7ffffffe
        b"\x0f\x22\xc0"  # mov cr0,eax
    ) + far(b"\xea", 0, 0x2000)
    guest = long_guest(
        b"\x6a\x10\x68\x00\x02\x10\x00\x48\xcb",  # push 0x10; push 0x100200; lretq
        memory={
            COMPATIBILITY: compatibility,
            0x90010: struct.pack("<HI", 0x3FF, 0),
        },
    )
    one = machine(guest)
    stop = finish(one, checkpoints={COMPATIBILITY: "compatibility"})
    assert (stop.checkpoint, stop.registers["efer"]) == ("compatibility", 0xD01)
    stop = finish(one, checkpoints={REAL16: "real"})
    assert (stop.checkpoint, stop.registers["cr0"] & 1, stop.registers["cs"]) == ("real", 0, 0x2000)
    assert (stop.registers["efer"], one.get("idtr_limit")) == (0x901, 0x3FF)


def test_a_far_jump_is_what_changes_the_size_of_code(machine: Make) -> None:
    # After MOV to CR0 the code segment still is the old one (SDM 3A, 9.9.1).
    guest = Guest(
        b"",
        "real16",
        {
            "ip": 0,
            "cr0": 0x10,
            "cs": Descriptor(0x2000, REAL16, 0xFFFF, 0x9B),
            "gdtr": TableRegister(GDT, 0x47),
        },
        tables(False)
        | {
            REAL16: (
                b"\x0f\x20\xc0"  # mov eax,cr0
                b"\x0c\x01"  # or al,1
                b"\x0f\x22\xc0"  # mov cr0,eax
                b"\xbb\x34\x12"  # mov bx,0x1234
                b"\xf4"  # hlt
            )
        },
    )
    stop = finish(machine(guest))
    assert (stop.kind, stop.registers["rbx"], stop.ip) == (StopKind.HALTED, 0x1234, REAL16 + 12)
