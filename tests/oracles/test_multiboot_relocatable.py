"""Kernels with Multiboot2's relocatable tag lie where real GRUB puts them, and hello runs there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import grub
from bootbuild.api import FileContent, Filling, MemoryContent, Offer, Profile
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.model.record import BuildRecord
from bootbuild.model.trace import StopKind
from bootbuild.model.verdict import Outcome
from bootbuild_baremetal.environments import grub_bios, grub_efi
from grub import Grub, Menu
from modelled import DebugPort
from oracle import run_until
from recipe_text import build_text
from workshop import Workshop

MiB = 1 << 20
GUEST = Path(__file__).parent / "guest/where.S"
SAID = re.compile(r"^([0-9A-F]{8}) ([0-9A-F]{8}) ([0-9A-F]{8}) $", re.MULTILINE)
PROFILES: dict[str, Profile] = {"bios": grub_bios.Multiboot2(), "uefi": grub_efi.Multiboot2()}
MEMORY = {"bios": 128, "uefi": 512}  #: MiB
ANY, LOW, HIGH = 0, 1, 2


@dataclass(frozen=True)
class Case:
    """The tag's words, where the kernel is linked, its .bss, and the sizes of modules."""

    least: int
    most: int
    align: int
    preference: int
    linked: int = 4 * MiB
    bss: int = 0
    modules: Sequence[int] = ()


CASES = {
    "anywhere": Case(MiB, 64 * MiB, 4096, ANY),
    "as low as it can": Case(3 * MiB, 0xFFFFFFFF, 2 * MiB, LOW),
    "where it is linked": Case(4 * MiB, 64 * MiB, 4096, LOW, modules=[5000]),
    "downwards": Case(MiB, 64 * MiB, 64 * 1024, LOW, linked=32 * MiB, modules=[5000, 7]),
    "as high as it can": Case(MiB, 0x7FFFFFFF, 2 * MiB, HIGH, bss=MiB),
    "high, small": Case(MiB, 0x7FFFFFFF, 2 * MiB, HIGH),
    # a larger module would make the UEFI application larger, which lies where the kernel could: it is in it
    "high, large": Case(MiB, 0x7FFFFFFF, 2 * MiB, HIGH, bss=20 * MiB, modules=[5000]),
    "high, below a bound": Case(MiB, 40 * MiB - 1, 4096, HIGH, bss=0x12345, modules=[MiB]),
    "just enough": Case(6 * MiB, 6 * MiB + 0x5FFF, 4096, ANY, modules=[MiB]),
    "just enough, low": Case(6 * MiB, 6 * MiB + 0x5FFF, 4096, LOW, bss=0x1000),
    "just enough, high": Case(6 * MiB, 6 * MiB + 0x5FFF, 4096, HIGH),
    "below 1 MiB": Case(0x10000, 0x9BFFF, 4096, LOW, modules=[MiB]),
    "below 1 MiB, high": Case(0x10000, 0x7FFFF, 4096, HIGH),
    "below 1 MiB, high, to its end": Case(0x8000, 0xFFFFF, 16, HIGH),
    "no alignment": Case(5 * MiB + 0x123, 0xFFFFFFFF, 0, LOW),
}


def where(case: Case, folder: Path) -> Path:
    words = {"LEAST": case.least, "MOST": case.most, "ALIGN": case.align, "PREFERENCE": case.preference}
    defines = [f"-D{name}={value:#x}" for name, value in (words | {"BSS": case.bss}).items()]
    image, script = folder / "where.elf", folder / "where.ld"
    script.write_text(
        f"ENTRY(start) PHDRS {{ all PT_LOAD; }} SECTIONS {{ . = {case.linked:#x}; "
        ".text : { KEEP(*(.multiboot)) *(.text) } :all .bss : { *(.bss) } :all }"
    )
    compiled = ["gcc", "-m32", "-nostdlib", "-static", "-Wl,--build-id=none,-z,max-page-size=4096,-n"]
    subprocess.run([*compiled, *defines, f"-Wl,-T,{script}", "-o", image, GUEST], check=True)
    return image


def offered(case: Case, folder: Path) -> list[tuple[Path, str]]:
    found = [(folder / f"m{number}", "") for number in range(len(case.modules))]
    for (path, _), size in zip(found, case.modules, strict=True):
        path.write_bytes(bytes(size))
    return found


def emulated(firmware: str, image: Path, modules: Sequence[tuple[Path, str]]) -> str:
    contents = tuple((str(path), MemoryContent(path.read_bytes()), text.encode()) for path, text in modules)
    offer = Offer(b"", contents, MEMORY[firmware] * MiB)
    scene = PROFILES[firmware].scene(read_elf(FileContent(image), "where"), offer, Filling.EXACT)
    platform = DebugPort(scene.platform)
    with Machine(replace(scene, platform=platform)) as machine:
        stop = machine.run(checkpoints={}, budget=1_000_000, seconds=60)
    assert stop.kind is StopKind.TRIPLE_FAULT, stop
    return bytes(platform.console).decode()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("firmware", PROFILES)
def test_a_kernel_lies_where_grub_puts_it(
    qemu: Path, gcc: Path, grub_pc: Grub, grub_efi: Grub, firmware: str, name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    image, modules = where(case, tmp_path), offered(case, tmp_path)
    start = grub_pc.bios if firmware == "bios" else grub_efi.efi
    command = start(qemu, Menu("multiboot2", image, "", modules), tmp_path, memory=MEMORY[firmware])
    transcript = run_until(command, [SAID.pattern], fail=grub.FAILS, timeout=60)
    real, ours = (
        SAID.findall(text.replace("\r", "")) for text in (transcript.text, emulated(firmware, image, modules))
    )
    assert real == ours
    ((entry, base, _),) = ours
    assert int(base, 16) < int(entry, 16) < int(base, 16) + 0x100


CMDLINE = "greeting=hello and=more"
PREFERENCES = {"any": 3 * MiB, "low": 16 * MiB, "high": 2 * MiB}  #: where it is linked, which is taken


@pytest.fixture(scope="module")
def hello(workshop: Workshop) -> dict[int, Path]:
    """hello as a static PIE, by its width."""
    return {width: workshop.pie(f"movable{width}", width) for width in (64, 32)}


def built(payload: Path, width: int, preference: str, folder: Path, more: str = "") -> BuildRecord:
    return build_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(payload))}
        startup = "startup_{width}"
        load = {PREFERENCES[preference]:#x}
        cmdline = "{CMDLINE}"
        [targets.multiboot2]
        relocatable = "{preference}"
        {more}
        [expect]
        console = "hello: done"
        """,
        folder,
    )


def told(console: str) -> list[str]:
    """hello's lines, without those of what UEFI itself has in memory."""
    lines = console.replace("\r", "").splitlines()
    return lines[lines.index("hello from multiboot2 on tcg") : lines.index("hello: done")]


RUNS = [
    *((firmware, width, like, False) for firmware in PROFILES for width in (64, 32) for like in PREFERENCES),
    *(("uefi", 64, like, True) for like in ("low", "high")),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, run)))
def test_hello_is_moved_and_runs(
    qemu: Path,
    grub_pc: Grub,
    grub_efi: Grub,
    hello: dict[int, Path],
    run: tuple[str, int, str, bool],
    tmp_path: Path,
) -> None:
    """All that it prints, addresses included, is the same in the emulator and in GRUB."""
    firmware, width, preference, alive = run
    record = built(hello[width], width, preference, tmp_path, "boot_services = true" if alive else "")
    (image,) = record.images
    assert [v.outcome for v in image.verdicts] == [Outcome.BOOTED] * 2, image.verdicts
    (verdict,) = (v for v in image.verdicts if firmware in v.name.replace("efi64", "uefi"))
    ours = told(verdict.runs[0].console.decode())
    (stub,) = (int(line.split()[1], 0) for line in ours if line.startswith("stub "))
    assert stub != PREFERENCES[preference] + 2 * MiB  # where it is linked
    start = grub_pc.bios if firmware == "bios" else grub_efi.efi
    menu = Menu("multiboot2", Path(image.path), CMDLINE)
    command = start(qemu, menu, tmp_path, memory=MEMORY[firmware])
    transcript = run_until(command, ["^hello: done"], fail=grub.FAILS, timeout=60)
    assert transcript.reached, str(transcript)
    assert told(transcript.text) == ours
