"""A Multiboot profile's scene run with the guest that says what it was given, as a real loader's is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import entry_dump
import modelled
import multiboot_dump
from bootbuild.abi import multiboot, multiboot2
from bootbuild.abi.multiboot2 import Multiboot2Info, TagType
from bootbuild.api import Cpu, Descriptor, FileContent, Filling, MemoryContent, Offer, Platform, Profile
from bootbuild.api.machine import Cpuid
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.trace import StopKind
from multiboot_dump import MultibootDump


@dataclass(frozen=True)
class Case:
    """What is started: where the kernel is linked, and what is offered to it. `memory` in MiB."""

    linked: int = entry_dump.ENTRY
    bss: int = 0
    cmdline: str = ""
    modules: Sequence[tuple[bytes, str]] = ()
    memory: int = 128


class DebugPort(Platform):
    """A platform with port 0xE9 beside what it has, as isa-debugcon is."""

    def __init__(self, inner: Platform) -> None:
        super().__init__()
        self._inner = inner
        self.console = inner.console

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        return self._inner.cpuid(cpu, leaf, subleaf, native)

    def port_in(self, cpu: Cpu, port: int, size: int) -> int:
        return self._inner.port_in(cpu, port, size)

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        if port == 0xE9:
            self.console.append(value)
        else:
            self._inner.port_out(cpu, port, size, value)


def files(case: Case, folder: Path) -> list[tuple[Path, str]]:
    """The modules of a case, written to `folder`, with their command lines."""
    found = []
    for number, (data, text) in enumerate(case.modules):
        path = folder / f"m{number}"
        path.write_bytes(data)
        found.append((path, text))
    return found


def emulated(
    profile: Profile, guest: Path, name: str, case: Case, modules: Sequence[tuple[Path, str]]
) -> MultibootDump:
    """What the guest says when it runs in a profile, and the hidden parts that the profile sets."""
    offered = tuple((str(path), MemoryContent(path.read_bytes()), text.encode()) for path, text in modules)
    image = read_elf(FileContent(guest), name)
    offer = Offer(case.cmdline.encode(), offered, case.memory << 20)
    scene = profile.scene(image, offer, Filling.EXACT)
    platform = DebugPort(scene.platform)
    with Machine(replace(scene, platform=platform)) as machine:
        stop = machine.run(checkpoints={}, budget=200_000_000, seconds=60)
    assert stop.kind is StopKind.TRIPLE_FAULT, stop
    said = multiboot_dump.parse(bytes(platform.console).decode())
    hidden: dict[str, Descriptor] = {name: getattr(scene.state, name) for name in modelled.SELECTORS}
    return replace(said, hidden={name: modelled.segment(value) for name, value in hidden.items()})


def by_name(dump: MultibootDump) -> dict[str, Any]:
    """Every field by its name. Of Multiboot2 information, its tags: what is between two is anything."""
    found: dict[str, Any] = {f"cpu.{name}": value for name, value in dump.cpu.items()}
    found |= {f"hidden.{name}": value for name, value in dump.hidden.items()}
    found |= {"modules": dump.modules, "a20": dump.a20}
    blocks = {name: found for name, found in dump.blocks.items() if name != "modules"}
    for listed in dump.blocks.get("modules", ()):  # GRUB does not write the entries' last word, the reserved
        entries = multiboot.unpack_modules(listed.bytes)
        found["module list"] = listed.address, tuple(replace(entry, reserved=0) for entry in entries)
    if multiboot2.MAGIC in (dump.cpu.get("eax"), dump.cpu.get("rax")):
        (information,) = blocks.pop("information")
        found["information.address"] = information.address
        found["information.size"] = len(information.bytes)
        for number, tag in enumerate(Multiboot2Info.unpack(information.bytes).tags):
            found[f"tag {number}, {TagType(tag.type).name}"] = tag.body
    return found | {f"block {name}": value for name, value in blocks.items()}


def differences(real: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Every field that is not the same, as name → (real, ours)."""
    names = {**real, **ours}
    return {name: (real.get(name), ours.get(name)) for name in names if real.get(name) != ours.get(name)}
