"""Guests at which an exception arrives, in both widths and at both privileges, and the frame it leaves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    HANDLERS,
    Guest,
    finish,
    gate32,
    gate64,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

RF, IF = 0x10000, 0x200
Make = Callable[[Guest | bytes], Machine]
Maker = Callable[..., Guest]
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
