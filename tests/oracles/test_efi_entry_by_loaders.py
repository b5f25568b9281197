"""By a disk, shim, systemd-boot or GRUB a program finds what efi@ovmf shows it, but for what is said here."""

from __future__ import annotations

from pathlib import Path

import pytest

import efi_dump
import ovmf as firmware
from bootbuild.api import Span
from bootbuild.platform.uefi import alive
from bootbuild.platform.uefi.ovmf import FREE
from bootbuild.platform.uefi.ovmf import Ovmf as Machine
from efi_dump import Record, memory, one
from efi_paths import Chainloader, Loader, Shim, Started, SystemdBoot
from grub import Grub
from oracle import run_until
from ovmf import Ovmf

CMDLINE = "console=ttyS0 a=b"
MEMORY = 512
SAME_CPU = (
    "cr0 cr3 cr4 cs ds es ss fs gs tr ldtr efer fcw mxcsr gdtr_limit gdtr_base gdt idtr_limit idtr_base"
).split()
SAME_TABLES = {
    "map": ["status", "stride", "version"],
    "system": ["at", "signature", "revision", "size", "vendor", "firmware"],
    "boot": ["signature", "revision", "size"],
    "runtime": ["at", "signature", "revision", "size"],
    "image": ["status", "revision", "system", "reserved", "size", "code", "data", "unload"],
}
LEFT = (
    1 << 21 | 0x8D5
)  #: in RFLAGS: ID, with which GRUB has tried whether there is CPUID; what comparisons leave
HARD_DRIVE, FILE = (4, 1), (4, 4)  #: UEFI 2.10 §10.3.5: type and subtype of media nodes
#: path → the file's name, a node each; LoadOptions; whether another program is its parent
TOLD = {
    "disk": (["\\EFI\\BOOT\\BOOTX64.EFI"], "", False),
    "shim": (["\\EFI\\BOOT\\grubx64.efi"], "", False),
    "systemd-boot": (["\\EFI\\acme\\program.efi"], f"initrd=\\EFI\\acme\\initrd {CMDLINE}", True),
    "chainloader": (["\\EFI\\acme", "program.efi"], CMDLINE, True),
}
FIRST_LARGE = 0x1500000  #: where the hole begins in which loaders put what is large


@pytest.fixture(scope="module")
def program(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return efi_dump.compile_guest(gcc, tmp_path_factory.mktemp("efi"), only_entry=True)


@pytest.fixture(scope="module")
def emulated(program: Path) -> list[Record]:
    return efi_dump.emulated(program, CMDLINE, b"", MEMORY)


@pytest.fixture
def loaders(shim: bytes, systemd_boot: Path, grub_efi: Grub) -> dict[str, Loader]:
    return {
        "shim": Shim(shim),
        "systemd-boot": SystemdBoot(systemd_boot),
        "chainloader": Chainloader(grub_efi),
    }


@pytest.mark.parametrize("path", TOLD)
def test_what_a_program_finds(
    path: str,
    qemu: Path,
    ovmf: Ovmf,
    loaders: dict[str, Loader],
    program: Path,
    emulated: list[Record],
    tmp_path: Path,
) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"an initrd")
    started = Started(program, CMDLINE, initrd)
    if path == "disk":
        command = ovmf.from_disk(qemu, program, tmp_path, memory=MEMORY)
    else:
        command = loaders[path].command(ovmf, qemu, started, tmp_path, MEMORY)
    transcript = run_until(command, [efi_dump.DONE], fail=firmware.FAILS, timeout=60)
    assert transcript.reached, str(transcript)
    real = efi_dump.parse(transcript.text)
    same_processor(real, emulated)
    same_tables(real, emulated)
    same_memory_is_kept(real, emulated)
    told(path, real)


def same_processor(real: list[Record], emulated: list[Record]) -> None:
    there, here = one(real, "cpu"), one(emulated, "cpu")
    assert {name: here[name] for name in SAME_CPU} == {name: there[name] for name in SAME_CPU}
    assert int(there["rflags"][0]) & ~LEFT == int(here["rflags"][0]) & ~LEFT
    (stack,) = there["rsp"]
    assert int(stack) % 16 == 8
    assert alive.stack(Machine(MEMORY << 20)).covers(Span(int(stack), 8))


def same_tables(real: list[Record], emulated: list[Record]) -> None:
    for name, fields in SAME_TABLES.items():
        there, here = one(real, name), one(emulated, name)
        assert {field: here[field] for field in fields} == {field: there[field] for field in fields}, name


def same_memory_is_kept(real: list[Record], emulated: list[Record]) -> None:
    """What is free for a kernel in the one is free in the other; below 21 MiB they have the same pieces."""
    there, here = memory(real), memory(emulated)
    assert [piece for piece in there if piece[2] not in FREE] == [p for p in here if p[2] not in FREE]
    assert [p for p in there if p[0] < FIRST_LARGE] == [p for p in here if p[0] < FIRST_LARGE]


def nodes(path: bytes) -> list[tuple[int, int, bytes]]:
    """Type, subtype and body of each node but the end."""
    found = []
    while path[0] != 0x7F:
        size = int.from_bytes(path[2:4], "little")
        found.append((path[0], path[1], path[4:size]))
        path = path[size:]
    return found


def told(path: str, real: list[Record]) -> None:
    names, options, parent = TOLD[path]
    image = one(real, "image")
    file_path, device_path, said = (image[name][0] for name in ("file_path", "device_path", "options"))
    assert isinstance(file_path, bytes) and isinstance(device_path, bytes) and isinstance(said, bytes)
    assert [node[:2] for node in nodes(file_path)] == [FILE] * len(names)
    assert [node[2].decode("utf-16-le").rstrip("\0") for node in nodes(file_path)] == names
    assert said.decode() == options
    assert image["options_size"] == [2 * len(options) + 2 if options else 0]
    assert bool(image["parent"][0]) is parent
    assert nodes(device_path)[-1][:2] == HARD_DRIVE
    assert image["file_system"] == [0]
