"""The UEFI application that says what it finds: compiled, made a PE, and its words read as data."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bootbuild.api import FileContent
from bootbuild.formats.elf_read import read_elf
from tiny_pe import CODE, DATA, Section, TinyPe

SOURCE = Path(__file__).parent / "guest_efi"
DONE = r"dump: \[end\]"
FLAGS = (
    "-m64 -march=x86-64 -std=gnu11 -Os -Wall -Wextra -Werror -Wno-strict-prototypes -Wno-unused-function"
    " -ffreestanding -fno-builtin"
    " -fpie -fvisibility=hidden -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables"
    " -mgeneral-regs-only -mno-red-zone -nostdlib -static-pie"
    " -Wl,--build-id=none,-z,norelro,--no-dynamic-linker"
).split()
PARTS = ("entry.S", "dump.c")


def compile_guest(gcc: Path, into: Path) -> Path:
    """Compile the application; the path of the PE."""
    elf, pe = into / "dump.elf", into / "dump.efi"
    command: list[str | Path] = [
        gcc,
        *FLAGS,
        "-T",
        SOURCE / "guest.ld",
        *(SOURCE / name for name in PARTS),
        "-o",
        elf,
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    image = read_elf(FileContent(elf), elf.name)
    sections = [
        Section(name, s.vaddr, image.content.read(s.offset, s.filesz), flags, s.memsz)
        for s in image.loads
        for name, flags in [(".text", CODE) if s.flags & 1 else (".data", DATA)]
    ]
    pe.write_bytes(bytes(TinyPe(sections, image.entry)))
    return pe
