"""Guests of a few bytes: code at CODE, tables in low memory, and every vector's handler a HLT of its own."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from bootbuild.api.environment import Scene
from bootbuild.api.machine import Cpuid, Platform
from bootbuild.machine.run import Machine
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import (
    Descriptor,
    EntryState,
    Given,
    Load,
    Region,
    RegionKind,
    TableRegister,
)
from bootbuild.model.span import Span

CODE, HANDLERS, MEMORY = 0x100000, 0x102000, 0x800000
GDT, IDT, TSS, TABLES = 0x1000, 0x2000, 0x4000, 0x10000
STACK, STACK0, IST1 = 0x90000, 0x80000, 0x70000
HOLE = 0x4000_0000  #: nothing is there; the identity maps below do not map it either

DESCRIPTORS = (
    0,
    0x00AF9B000000FFFF,  # 08 code, 64 bit
    0x00CF9B000000FFFF,  # 10 code, 32 bit
    0x00CF93000000FFFF,  # 18 data
    0x00AFFB000000FFFF,  # 20 code, 64 bit, DPL 3
    0x00CFFB000000FFFF,  # 28 code, 32 bit, DPL 3
    0x00CFF3000000FFFF,  # 30 data, DPL 3
    0x00EF9B000000FFFF,  # 38 code with both L and D
    0x00CF13000000FFFF,  # 40 data, not present
)
KERNEL64 = Descriptor(0x08, attributes=0xA09B)
KERNEL32 = Descriptor(0x10, attributes=0xC09B)
KERNEL_DATA = Descriptor(0x18, attributes=0xC093)
USER64 = Descriptor(0x23, attributes=0xA0FB)
USER32 = Descriptor(0x2B, attributes=0xC0FB)
USER_DATA = Descriptor(0x33, attributes=0xC0F3)


class Box(Platform):
    """A debug console at port 0xe9, power-off at 0x604, and a list of all that was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def port_in(self, cpu: Any, port: int, size: int) -> int:
        self.asked.append(("in", port, size))
        return 0x1122_3344

    def port_out(self, cpu: Any, port: int, size: int, value: int) -> None:
        self.asked.append(("out", port, size, value))
        if port == 0xE9:
            self.console.append(value)
        if port == 0x604:
            cpu.stop("shutdown", "the guest switched itself off")

    def mmio_read(self, cpu: Any, address: int, size: int) -> int:
        self.asked.append(("read", address, size))
        return 0x5566_7788

    def mmio_write(self, cpu: Any, address: int, size: int, value: int) -> None:
        self.asked.append(("write", address, size, value))

    def read_msr(self, cpu: Any, index: int) -> int | None:
        return 0x1234_0000_5678 if index == 0x4000_0000 else None

    def write_msr(self, cpu: Any, index: int, value: int) -> bool:
        self.asked.append(("wrmsr", index, value))
        return index == 0x4000_0000

    def cpuid(self, cpu: Any, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        return (0x4000_0001, 2, 3, 4) if leaf == 0x4000_0000 else native


@dataclass
class Guest:
    """What a test says about its machine; everything else is a flat 8 MiB."""

    code: bytes
    mode: str = "protected32"
    state: dict[str, Any] = field(default_factory=dict)
    memory: dict[int, bytes] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    platform: Platform = field(default_factory=Box)
    garbage: int = 0


def identity(user: bool = False) -> dict[int, bytes]:
    """Four-level tables at TABLES that map the first 16 MiB onto itself, by 2 MiB pages."""
    rights = 7 if user else 3
    return {
        TABLES: struct.pack("<Q", TABLES + 0x1000 | rights),
        TABLES + 0x1000: struct.pack("<Q", TABLES + 0x2000 | rights),
        TABLES + 0x2000: b"".join(struct.pack("<Q", at << 21 | 0x80 | rights) for at in range(8)),
    }


def gate64(address: int, kind: int = 0x8E, ist: int = 0, selector: int = 8) -> bytes:
    """An IDT entry of 64-bit mode."""
    return struct.pack(
        "<HHBBHII", address & 0xFFFF, selector, ist, kind, address >> 16 & 0xFFFF, address >> 32, 0
    )


def gate32(address: int, kind: int = 0x8E, selector: int = 0x10) -> bytes:
    """An IDT entry of 32-bit mode."""
    return struct.pack("<HHBBH", address & 0xFFFF, selector, 0, kind, address >> 16)


def handler(vector: int) -> int:
    """Where the handler of a vector lies: one HLT."""
    return HANDLERS + vector


def tables(long: bool, gates: dict[int, bytes] | None = None) -> dict[int, bytes]:
    """GDT, a full IDT (with the changes in `gates`) and a TSS."""
    gate = gate64 if long else gate32
    entries = [(gates or {}).get(vector, gate(handler(vector))) for vector in range(256)]
    task = struct.pack("<IQ24xQ", 0, STACK0, IST1) if long else struct.pack("<III", 0, STACK0, 0x18)
    return {
        GDT: struct.pack(f"<{len(DESCRIPTORS)}Q", *DESCRIPTORS),
        IDT: b"".join(entries),
        TSS: task.ljust(0x68, b"\0"),
        HANDLERS: b"\xf4" * 256,
    }


def protected(user: bool = False, **more: Any) -> dict[str, Any]:
    """32-bit protected mode on the tables above."""
    data = USER_DATA if user else KERNEL_DATA
    state: dict[str, Any] = {
        "cs": USER32 if user else KERNEL32,
        "ds": data,
        "es": data,
        "ss": data,
        "gdtr": TableRegister(GDT, 8 * len(DESCRIPTORS) - 1),
        "idtr": TableRegister(IDT, 0x7FF),
        "tr": Descriptor(0x48, TSS, 0x67, 0x8B),
        "registers": {"rsp": STACK, **more.pop("registers", {})},
    }
    return {**state, **more}


def long(user: bool = False, **more: Any) -> dict[str, Any]:
    """64-bit mode on the tables above."""
    state = protected(user)
    state |= {"cs": USER64 if user else KERNEL64, "idtr": TableRegister(IDT, 0xFFF)}
    state |= {"cr0": 0x8000_0031, "cr3": TABLES, "cr4": 0x620, "efer": 0xD01}
    state["registers"] |= more.pop("registers", {})
    return {**state, **more}


def long_guest(code: bytes, *, gates: dict[int, bytes] | None = None, **more: Any) -> Guest:
    """A guest in 64-bit mode, on an identity map."""
    memory = tables(True, gates) | identity() | more.pop("memory", {})
    return Guest(code, "long64", long(**more), memory)


def protected_guest(code: bytes, *, gates: dict[int, bytes] | None = None, **more: Any) -> Guest:
    """A guest in 32-bit mode without paging."""
    return Guest(code, "protected32", protected(**more), tables(False, gates))


def scene(guest: Guest) -> Scene:
    """The scene of a guest."""
    contents = {CODE: guest.code, **guest.memory}
    loads = tuple(
        Load(at, MemoryContent(data), 0, len(data), len(data)) for at, data in contents.items() if data
    )
    return Scene(
        regions=(Region(Span(0, MEMORY), RegionKind.RAM), *guest.regions),
        loads=loads,
        state=EntryState(guest.mode, **{"ip": CODE, **guest.state}),  # type: ignore[arg-type]
        given=Given(0, 0, 0, b"", (), ()),
        platform=guest.platform,
        garbage=guest.garbage,
    )


def finish(machine: Machine, **more: Any) -> Any:
    """Run to the end; the stop."""
    return machine.run(**{"checkpoints": {}, "budget": 100_000, "seconds": 10.0, **more})
