"""UEFI applications in C: compiled, made PEs; and the one that says what it finds, its words read as data."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bootbuild.api import FileContent, Filling, MemoryContent, Offer, Profile
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild_efi.environments import Ovmf
from tiny_file import Load, elf_file
from tiny_pe import CODE, DATA, Section, TinyPe

SOURCE = Path(__file__).parent / "guest_efi"
OVMF = Ovmf()
DONE = r"dump: \[end\]"
FLAGS = (
    "-m64 -march=x86-64 -std=gnu11 -Os -Wall -Wextra -Werror -Wno-strict-prototypes -Wno-unused-function"
    " -ffreestanding -fno-builtin"
    " -fpie -fvisibility=hidden -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables"
    " -mgeneral-regs-only -mno-red-zone -nostdlib -static-pie"
    " -Wl,--build-id=none,-z,norelro,--no-dynamic-linker"
).split()
OVMF = Ovmf()
PARTS = ("entry.S", "dump.c", "calls.c")


#: what makes QEMU take a file for a bzImage of protocol 2.15, to which it gives an initrd
BZIMAGE = {0x1F1: b"\x03", 0x202: b"HdrS\x0f\x02", 0x211: b"\x01", 0x22C: b"\xff\xff\xff\x7f"}


def compile_pe(
    gcc: Path,
    sources: Iterable[Path],
    into: Path,
    options: Sequence[str] = (),
    base: int = 0,
    changes: Mapping[int, bytes] | None = None,
) -> bytes:
    """A PE of position-independent C, entered at `entry`. `into`: a folder. `base`: its ImageBase.

    `changes`: bytes at other offsets of the file, before its PE header.
    """
    elf = into / "program.elf"
    command: list[str | Path] = [gcc, *FLAGS, *options, "-T", SOURCE / "guest.ld", *sources, "-o", elf]
    subprocess.run(command, check=True, capture_output=True, text=True)
    image = read_elf(FileContent(elf), elf.name)
    sections = [
        Section(name, s.vaddr, image.content.read(s.offset, s.filesz), flags, s.memsz)
        for s in image.loads
        for name, flags in [(".text", CODE) if s.flags & 1 else (".data", DATA)]
    ]
    return bytes(TinyPe(sections, image.entry, base, header_at=0x300, changes=changes or {}))


def compile_guest(gcc: Path, into: Path, *, only_entry: bool = False) -> Path:
    """The application that says what it finds; `only_entry`: but its handles, and what services answer."""
    pe, parts = into / "dump.efi", PARTS[:2] if only_entry else PARTS
    options = ["-DONLY_ENTRY"] if only_entry else []
    pe.write_bytes(compile_pe(gcc, [SOURCE / name for name in parts], into, options, changes=BZIMAGE))
    return pe


Record = tuple[str, Mapping[str, Sequence[int | bytes]]]


def parse(console: str) -> list[Record]:
    """Each record with its fields: numbers and bytes, as often as they were said. ValueError if cut off."""
    records: list[tuple[str, dict[str, list[int | bytes]]]] = []
    for new, name, form, value in re.findall(r"dump: (?:\[(\w+)\]|(\w+)=(0x|x)([0-9a-f]*))", console):
        if new:
            records.append((new, {}))
        else:
            found = bytes.fromhex(value) if form == "x" else int(value, 16)
            records[-1][1].setdefault(name, []).append(found)
    if not records or [records[0][0], records[-1][0]] != ["begin", "end"]:
        raise ValueError("no complete dump")
    return list(records)


def one(records: Sequence[Record], name: str) -> Mapping[str, Sequence[int | bytes]]:
    """The first record of this name."""
    return next(fields for kind, fields in records if kind == name)


def memory(records: Sequence[Record]) -> list[tuple[int, ...]]:
    """The memory map: address, pages, type, attribute of each piece."""
    fields = ("addr", "pages", "type", "attribute")
    return [tuple(int(one[f][0]) for f in fields) for kind, one in records if kind == "memory"]


def emulated(
    program: Path, cmdline: str, initrd: bytes, memory: int, profile: Profile = OVMF
) -> list[Record]:
    """What the application says in a profile. `memory` in MiB."""
    kernel = elf_file(64, 0x1800000, Load(0x1800000, 0x1800000, b"\xf4", 1, 0x1000), b"")
    image = replace(read_elf(MemoryContent(kernel), "kernel"), packing=FileContent(program))
    modules = (("initrd", MemoryContent(initrd), b""),) if initrd else ()
    scene = profile.scene(image, Offer(cmdline.encode(), modules, memory << 20), Filling.EXACT)
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={}, budget=50_000_000, seconds=60)
    assert "returned EFI_SUCCESS" in stop.detail, stop
    return parse(bytes(scene.platform.console).decode())
