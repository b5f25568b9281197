"""In real mode an interrupt goes through the vector table that IDTR tells of."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bootbuild.model.machine import TableRegister
from bootbuild.model.trace import StopKind
from exception_frames import Make
from machine_guests import CODE, KERNEL_DATA, Guest, finish


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
