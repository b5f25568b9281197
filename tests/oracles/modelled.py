"""A profile's scene read as if it were a real monitor's dump, so that the two can be compared."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bootbuild.api import Cpu, Descriptor, Platform, Scene
from bootbuild.api.machine import Cpuid
from entry_dump import EntryDump, Segment

GENERAL = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")
SELECTORS = ("cs", "ds", "es", "ss", "fs", "gs", "tr", "ldtr")
START_INFO = struct.Struct("<4I3QQII")  #: start_info.h, version 1
START_INFO_NAMES = (
    "magic version flags nr_modules modlist_paddr cmdline_paddr rsdp_paddr"
    " memmap_paddr memmap_entries reserved"
).split()
MODULE_NAMES = "paddr size cmdline_paddr reserved".split()


class DebugPort(Platform):
    """A platform with port 0xE9 beside what it has, as isa-debugcon is."""

    def __init__(self, inner: Platform) -> None:
        super().__init__()
        self._inner = inner
        self.console = inner.console

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        return self._inner.cpuid(cpu, leaf, subleaf, native)

    def hypercall(self, cpu: Cpu, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        return self._inner.hypercall(cpu, instruction)

    def port_in(self, cpu: Cpu, port: int, size: int) -> int:
        return self._inner.port_in(cpu, port, size)

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        if port == 0xE9:
            self.console.append(value)
        else:
            self._inner.port_out(cpu, port, size, value)


def differences(real: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Every field that is not the same, as name → (real, ours)."""
    names = {**real, **ours}
    return {name: (real.get(name), ours.get(name)) for name in names if real.get(name) != ours.get(name)}


@dataclass(frozen=True)
class Memory:
    """Physical memory as a scene loads it; later loads win, what nothing loads is zero."""

    scene: Scene

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from a physical address."""
        data = bytearray(size)
        for load in self.scene.loads:
            bytes_of = load.content.read(load.offset, load.size).ljust(load.memsz, b"\0")
            start, end = max(address, load.address), min(address + size, load.address + load.memsz)
            if start < end:
                data[start - address : end - address] = bytes_of[start - load.address : end - load.address]
        return bytes(data)

    def text(self, address: int) -> bytes | None:
        """A NUL-terminated string; None for address 0."""
        return self.read(address, 4096).partition(b"\0")[0] if address else None


def segment(descriptor: Descriptor) -> Segment:
    """A descriptor as a dump has it."""
    return Segment(descriptor.selector, descriptor.base, descriptor.limit, descriptor.attributes)


def dump(scene: Scene) -> EntryDump:
    """What entry_dump's guest would have said at this scene's first instruction."""
    state, memory = scene.state, Memory(scene)
    registers = {name: state.registers.get("r" + name[1:], 0) for name in GENERAL}
    hidden = {name: segment(getattr(state, name)) for name in SELECTORS}
    address = registers["ebx"]
    start_info = dict(zip(START_INFO_NAMES, START_INFO.unpack(memory.read(address, START_INFO.size))))
    if start_info["version"] == 0:
        for name in START_INFO_NAMES[-3:]:
            del start_info[name]
    modules, memmap = [], []
    for index in range(start_info["nr_modules"]):
        raw = memory.read(start_info["modlist_paddr"] + 32 * index, 32)
        fields = dict(zip(MODULE_NAMES, struct.unpack("<4Q", raw)))
        fields["crc32"] = zlib.crc32(memory.read(fields["paddr"], fields["size"]))
        modules.append(fields)
    for index in range(start_info.get("memmap_entries", 0)):
        entry = memory.read(start_info["memmap_paddr"] + 24 * index, 24)
        memmap.append(struct.unpack("<QQI", entry[:20]))
    return EntryDump(
        cpu={
            **registers,
            "eflags": state.registers["rflags"],
            "cr0": state.cr0,
            "cr3": state.cr3,
            "cr4": state.cr4,
            "efer": state.efer,
            **{name: segment.selector for name, segment in hidden.items()},
            "gdtr_limit": state.gdtr.limit,
            "gdtr_base": state.gdtr.base,
            "idtr_limit": state.idtr.limit,
            "idtr_base": state.idtr.base,
        },
        hidden=hidden,
        start_info={"address": address, **start_info},
        cmdline=memory.text(start_info["cmdline_paddr"]),
        modules=tuple(modules),
        module_cmdlines=tuple(memory.text(module["cmdline_paddr"]) for module in modules),
        memmap=tuple(memmap),
        hypervisors={},
    )
