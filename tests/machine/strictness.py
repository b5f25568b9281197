"""Guests of a few instructions of which hardware faults on one, and the engine lets it pass."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bootbuild.machine.run import Machine
from machine_guests import Guest, identity, long, protected, tables

Make = Callable[[Guest | bytes], Machine]

L_AND_D = b"\x6a\x38\x68\x10\x00\x10\x00\x48\xcb"  # push 0x38; push 0x100010; lretq


@dataclass(frozen=True)
class Case:
    """`code` in 32- or 64-bit mode; where it breaks the rule, and how that is said."""

    rule: str
    code: bytes = field(repr=False)
    at: int = 0
    detail: str = ""
    bits: int = 64
    state: dict[str, Any] = field(default_factory=dict)


def guest(case: Case) -> Guest:
    """With a HLT behind, and pseudo-descriptors at 0x90000 (not canonical) and 0x90010."""
    memory = {0x90000: struct.pack("<HQ", 0x47, 0x8000_0000_1000), 0x90010: struct.pack("<HQ", 0x47, 0x1000)}
    if case.bits == 64:
        return Guest(case.code + b"\xf4", "long64", long(**case.state), tables(True) | identity() | memory)
    pages = {0x10000: struct.pack("<2I", 0xE3, 0x4000E3)}  # without PAE
    pages |= {0x11000: struct.pack("<Q", 0x12E19), 0x12000: struct.pack("<Q", 0x83)}  # with it
    return Guest(case.code + b"\xf4", "protected32", protected(**case.state), tables(False) | pages | memory)
