"""linux@qemu-16bit and linux@grub-32bit hand over, byte for byte, what QEMU and GRUB do; and so the BIOS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import grub
import linux_dump
import modelled
import monitors
from bootbuild.api import Profile
from bootbuild.formats.payload import open_content, sealed
from bootbuild_baremetal.environments.linux_grub import Grub as GrubProfile
from bootbuild_baremetal.environments.linux_qemu import Qemu
from entry_dump import Segment
from grub import Grub, Menu
from linux_dump import LinuxDump

MiB = 1 << 20
LOW = 0x100000  #: where a kernel is that is not relocatable
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
# LDTR's hidden part cannot be read by a guest; a code segment not marked as accessed exists under TCG only
LDTR = {"hidden.ldtr": (Segment(0, 0, 0xFFFF, 0x82), Segment(0, 0, 0, 0))}
CODE = {"hidden.cs": (Segment(0x10, 0, 0xFFFFFFFF, 0xC09A), Segment(0x10, 0, 0xFFFFFFFF, 0xC09B))}
OWN_STRUCTURE = 0x3FC  #: bytes of boot_params that GRUB fills; what is behind them was there before
LEFT_OVER = ("cpu.ecx", "cpu.edx")  #: GRUB's own, on its way out


@dataclass(frozen=True)
class Case:
    """What is started. `memory` in MiB; `ramdisk` in bytes, None for none."""

    cmdline: str = ""
    ramdisk: int | None = None
    memory: int = 128
    linked: int = LOW
    xloadflags: int = 0


QEMU = {
    "nothing": Case(),
    "command line": Case("root=/dev/none quiet"),
    "vga": Case("a vga=ext b"),
    "vga number": Case("vga=0x317"),
    "ramdisk": Case("a", 5000),
    "ramdisk, 16 MiB": Case("a", 5000, 16),
    "ramdisk, 17 MiB": Case("a", 4096, 17),
    "ramdisk, 1 GiB": Case("a", 3 * MiB, 1024),
    "ramdisk anywhere": Case("a", 5001, xloadflags=XLF_CAN_BE_LOADED_ABOVE_4G),
}
GRUB = {
    "nothing": Case(),
    "command line": Case("root=/dev/none quiet"),
    "words": Case("""a="b  c"  'd"e' f\\ g"""),
    "small ramdisk": Case("a", 28672),  # fits into the hole that GRUB leaves in its own memory
    "ramdisk": Case("a", 28673),
    "large ramdisk, 64 MiB": Case("a", 9 * MiB, 64),
    "ramdisk, 1 GiB": Case("a", 5000, 1024),  # below the address that GRUB takes for the highest
    "relocatable": Case("a", 5000, linked=16 * MiB),
    "relocatable, elsewhere": Case("a", linked=37 * MiB),
}

Make = Callable[[Case], Path]


@pytest.fixture(scope="module")
def guest(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[tuple[int, int], Path] = {}

    def make(case: Case) -> Path:
        key = (case.linked, case.xloadflags)
        if key not in made:
            made[key] = linux_dump.compile_guest(
                gcc,
                tmp_path_factory.mktemp("guest"),
                linked=case.linked,
                relocatable=case.linked != LOW,
                xloadflags=case.xloadflags,
            )
        return made[key]

    return make


def ramdisks(case: Case, folder: Path) -> list[Path]:
    if case.ramdisk is None:
        return []
    path = folder / "ramdisk"
    path.write_bytes(bytes(range(251)) * (case.ramdisk // 251 + 1))
    with path.open("r+b") as file:
        file.truncate(case.ramdisk)
    return [path]


def fields(dump: LinuxDump) -> dict[str, Any]:
    """Every field by its name."""
    found: dict[str, Any] = {f"cpu.{name}": value for name, value in dump.cpu.items()}
    found |= {f"hidden.{name}": value for name, value in dump.hidden.items()}
    found |= {f"ramdisk.{name}": value for name, value in dump.ramdisk.items()}
    return found | {f"block {name}": value for name, value in dump.blocks.items()} | {"a20": dump.a20}


def emulated(profile: Profile, guest: Path, name: str, case: Case, modules: Sequence[Path]) -> dict[str, Any]:
    image = sealed(open_content(guest), name)
    return fields(linux_dump.emulated(profile, image, case.cmdline, modules, case.memory))


def from_qemu(qemu: Path, guest: Path, case: Case, folder: Path) -> LinuxDump:
    command = monitors.qemu_kernel(
        qemu,
        guest,
        cmdline=case.cmdline,
        initrd=next(iter(ramdisks(case, folder)), None),
        memory=case.memory,
        debug_port=True,
    )
    return linux_dump.observe(command, folder, (), 0x10200)


@pytest.mark.parametrize("name", QEMU)
def test_qemu(qemu: Path, guest: Make, name: str, tmp_path: Path) -> None:
    case = QEMU[name]
    real = fields(from_qemu(qemu, guest(case), case, tmp_path))
    ours = emulated(Qemu(), guest(case), str(guest(case)), case, ramdisks(case, tmp_path))
    assert modelled.differences(real, ours) == LDTR
    assert len([key for key in real if key.startswith("block bios")]) > 20  # all that Linux asks, and more


@pytest.mark.parametrize("name", GRUB)
def test_grub(qemu: Path, grub_pc: Grub, guest: Make, name: str, tmp_path: Path) -> None:
    case = GRUB[name]
    modules = ramdisks(case, tmp_path)
    menu = Menu("linux", guest(case), case.cmdline, [(path, "") for path in modules])
    command = grub_pc.bios(qemu, menu, tmp_path, memory=case.memory)
    real = fields(linux_dump.observe(command, tmp_path, grub.FAILS, case.linked))
    ours = emulated(GrubProfile(), guest(case), "kernel", case, modules)
    for found in (real, ours):
        address, page = found["block boot_params"]
        found["block boot_params"] = address, page[:OWN_STRUCTURE]
        for register in LEFT_OVER:
            del found[register]
    assert modelled.differences(real, ours) == LDTR | CODE


def test_grub_by_its_command_linux16(qemu: Path, grub_pc: Grub, guest: Make, tmp_path: Path) -> None:
    """Another loader into the real-mode entry: it keeps what boot.rst promises, elsewhere than QEMU."""
    case = QEMU["ramdisk"]
    menu = Menu("linux16", guest(case), case.cmdline, [(path, "") for path in ramdisks(case, tmp_path)])
    command = grub_pc.bios(qemu, menu, tmp_path, memory=case.memory)
    real = linux_dump.observe(command, tmp_path, grub.FAILS, 0x90200)
    cpu = real.cpu
    assert (cpu["cs"], cpu["esp"], cpu["eflags"] & 0x200) == (0x9020, 0x9000, 0)
    assert {cpu[name] for name in ("ds", "es", "ss", "fs", "gs")} == {0x9000}
    assert real.bytes_of("cmdline") == b"BOOT_IMAGE=/kernel a\0"
    qemus = from_qemu(qemu, guest(case), case, tmp_path)
    asked = [name for name in qemus.blocks if name.startswith("bios")]
    # the BIOS says the same, but that GRUB came from a disk: INT 13h, and how many there are (INT 11h)
    assert [
        real.bytes_of(name)[:40]
        for name in asked
        if real.bytes_of(name)[40] not in (0x11, 0x13) and real.bytes_of(name)[:2] != b"\x00\x53"
    ] == [
        qemus.bytes_of(name)[:40]
        for name in asked
        if qemus.bytes_of(name)[40] not in (0x11, 0x13) and qemus.bytes_of(name)[:2] != b"\x00\x53"
    ]


def test_a_difference_is_seen(guest: Make, tmp_path: Path) -> None:
    one, other = (
        emulated(Qemu(), guest(case), "kernel", case, ramdisks(case, tmp_path))
        for case in (QEMU["nothing"], QEMU["ramdisk"])
    )
    assert {"ramdisk.size", "block setup", "block cmdline"} <= {*modelled.differences(one, other)}


def test_an_incomplete_dump_is_an_error() -> None:
    with pytest.raises(ValueError, match="no complete dump"):
        linux_dump.parse("dump: [begin]\ndump: [cpu]\ndump: eax=0x00000001\n")
