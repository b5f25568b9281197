"""The PV guest that says how Xen entered it: compiled, run here as on real Xen, its words read as data."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from bootbuild.api import FileContent, Filling, MemoryContent, Offer, Profile
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.trace import StopKind

SOURCE = Path(__file__).parent / "guest_pv"
DONE = r"dump: \[end\]"
FLAGS = (
    "-m64 -march=x86-64 -mcmodel=kernel -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin"
    " -fno-pic -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -mgeneral-regs-only"
    " -mno-red-zone -nostdlib -static -no-pie -Wl,--build-id=none,--no-warn-rwx-segments"
).split()


PARTS = ("entry.S", "dump.c", "tables.c", "ports.c", "calls.c", "faults.c", "pages.c", "grants.c", "events.c")
#: What is defined for the notes, and the linker's OFFSET, by the form of the guest
FORMS = {
    "inside": ("", 0xFFFFFFFF80000000),
    "outside": ("-DOUTSIDE", 0xFFFFFFFF80000000),  #: notes INIT_P2M and MOD_START_PFN
    "calls": ("-DCALLS", 0xFFFFFFFF80000000),  #: makes hypercalls, and says nothing else
    "linked": ("-DLINKED", 0),  #: p_paddr is p_vaddr, with note PADDR_OFFSET
}


def compile_guest(gcc: Path, into: Path, form: str) -> Path:
    """Compile the guest in one of FORMS."""
    elf = into / f"pv-dump-{form}.elf"
    defined, offset = FORMS[form]
    sources = [SOURCE / name for name in PARTS]
    options: list[str | Path] = [
        *FLAGS,
        *defined.split(),
        f"-Wl,--defsym=OFFSET={offset:#x}",
        "-T",
        SOURCE / "guest.ld",
    ]
    command: list[str | Path] = [gcc, *options, *sources, "-o", elf]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return elf


def emulated(profile: Profile, guest: Path, cmdline: str, module: bytes, memory: int) -> str:
    """What the guest says when it runs in a profile; `memory` in MiB."""
    modules = (("module", MemoryContent(module), b""),) if module else ()
    image = read_elf(FileContent(guest), guest.name)
    scene = profile.scene(image, Offer(cmdline.encode(), modules, memory << 20), Filling.EXACT)
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={}, budget=50_000_000, seconds=60)
    assert stop.kind is StopKind.SHUTDOWN, stop
    return bytes(scene.platform.console).decode()


def parse(console: str) -> dict[str, Any]:
    """Field by field, named by its record and, where there are many of a kind, what it is of or its number.

    ValueError for a dump that is cut off.
    """
    found: dict[str, Any] = {}
    records: Counter[str] = Counter()
    texts: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    kind = ""

    def close() -> None:
        name = kind
        if kind == "mapped":
            name = f"mapped {texts.pop('what').decode()}"
        elif kind == "table":
            name = f"table {numbers['level']} {numbers['number']:#x}"
        elif kind == "memory":
            name = f"memory {numbers['addr']:#x}"
        records[name] += 1
        if records[name] > 1:
            name += f" {records[name]}"
        found.update({f"{name}.{key}": value for key, value in (numbers | texts).items()})
        numbers.clear()
        texts.clear()

    lines = re.findall(r"dump: (?:\[(\w+)\]|(\w+)=(0x|x)([0-9a-f]*))", console)
    if [lines[0][0], lines[-1][0]] != ["begin", "end"]:
        raise ValueError("no complete dump")
    for new, name, form, value in lines:
        if new:
            close()
            kind = new
        elif form == "x":
            texts[name] = texts.get(name, b"") + bytes.fromhex(value)
        else:
            many = sum(key.startswith(name) for key in numbers) if name in numbers else ""
            numbers[f"{name}{many}"] = int(value, 16)
    return found
