"""Each Multiboot profile sets up, byte for byte, what real GRUB and QEMU hand over to the same kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import entry_dump
import grub
import monitors
import multiboot_dump
from bootbuild.api import Profile
from bootbuild.platform.uefi import ovmf as uefi
from bootbuild.platform.uefi.ovmf import MemoryType
from bootbuild_baremetal.environments import grub_bios
from bootbuild_baremetal.environments import grub_efi as efi_profile
from bootbuild_baremetal.environments import qemu as qemu_profile
from entry_dump import Segment
from grub import Grub, Menu
from modelled import differences
from multiboot_dump import MultibootDump
from multiboot_modelled import Case, by_name, emulated, files

MiB = 1 << 20
MODULE = b"the bytes of a module, of an odd length\n" * 111 + b"\0"
# A code segment that is not marked accessed exists under TCG only, and LDTR's hidden part cannot be read
NOT_COPIED: dict[str, Any] = {"hidden.ldtr": (Segment(0, 0, 0xFFFF, 0x82), Segment(0, 0, 0, 0))}
GRUB = NOT_COPIED | {
    "hidden.cs": (Segment(0x10, 0, 0xFFFFFFFF, 0xC09A), Segment(0x10, 0, 0xFFFFFFFF, 0xC09B))
}
QEMU = NOT_COPIED | {"hidden.cs": (Segment(8, 0, 0xFFFFFFFF, 0xC09A), Segment(8, 0, 0xFFFFFFFF, 0xC09B))}


CASES = {
    "nothing": Case(),
    "command line": Case(cmdline="root=/dev/none quiet"),
    "words": Case(cmdline="""a="b  c"  'd"e' f\\ g h\\\\x41 "'" -- """),
    "more words": Case(cmdline="""'{a}' \\{b "c}d" e#f \v\f "g\th"\ti"" "" "\\$j" a=b,c ! [ * ]"""),
    "module": Case(modules=[(MODULE, "")]),
    "modules": Case(cmdline="a", modules=[(MODULE, "a b"), (b"", "empty"), (b"x", "a,b"), (MODULE, ",")]),
    "at 1 MiB": Case(linked=MiB, modules=[(MODULE, "")]),
    "at 1 MiB, module": Case(linked=MiB, bss=3 * MiB, modules=[(MODULE * 300, "")]),
    "below 1 MiB": Case(linked=0x20000, modules=[(MODULE, "")]),
    "little below": Case(linked=2 * MiB, modules=[(MODULE * 500, ""), (MODULE, "")], memory=64),
    "too much for below": Case(linked=2 * MiB, modules=[(bytes(MiB), ""), (bytes(0xF0000), "a")], memory=48),
}


@pytest.fixture(scope="module")
def compile_guest(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("guests")
    made: dict[tuple[int, int, bool], Path] = {}

    def compile_once(case: Case, efi64: bool = False) -> Path:
        key = (case.linked, case.bss, efi64)
        if key not in made:
            into = folder / f"{case.linked:x}-{case.bss:x}-{efi64}"
            into.mkdir()
            made[key] = entry_dump.compile_guest(
                gcc, into, multiboot=True, efi64=efi64, linked=case.linked, bss=case.bss
            )
        return made[key]

    return compile_once


def observed(
    command: Sequence[str], folder: Path, ours: MultibootDump, case: Case, not_copied: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """All fields of the real loader's dump and of `ours`, and which of them may differ.

    Hidden parts can be seen only where nothing but the guest executes.
    """
    seen = case.linked == entry_dump.ENTRY
    real, _ = multiboot_dump.observe(command, folder, grub.FAILS, case.linked if seen else None)
    if seen:
        return by_name(real), by_name(ours), not_copied
    return by_name(real), by_name(replace(ours, hidden={})), {}


def compared(
    command: Sequence[str], folder: Path, ours: MultibootDump, case: Case, not_copied: dict[str, Any]
) -> None:
    """Nothing differs but what a profile does not copy."""
    real, modelled_fields, allowed = observed(command, folder, ours, case, not_copied)
    assert differences(real, modelled_fields) == allowed


BIOS: dict[str, tuple[grub.Command, Profile]] = {
    "multiboot1": ("multiboot", grub_bios.Multiboot1()),
    "multiboot2": ("multiboot2", grub_bios.Multiboot2()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("protocol", BIOS)
def test_grub_on_a_bios(
    qemu: Path, grub_pc: Grub, compile_guest: Any, protocol: str, name: str, tmp_path: Path
) -> None:
    case = CASES[name]
    command, profile = BIOS[protocol]
    guest, modules = compile_guest(case), files(case, tmp_path)
    menu = Menu(command, guest, case.cmdline, modules)
    started = grub_pc.bios(qemu, menu, tmp_path, memory=case.memory)
    compared(started, tmp_path, emulated(profile, guest, guest.name, case, modules), case, GRUB)


@pytest.mark.parametrize("name", [name for name in CASES if name != "words"])
def test_qemu(qemu: Path, compile_guest: Any, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    guest, modules = compile_guest(case), files(case, tmp_path)
    command = monitors.qemu_kernel(qemu, guest, cmdline=case.cmdline, memory=case.memory, debug_port=True)
    if modules:
        values = (f"{path} {text}".strip().replace(",", ",,") for path, text in modules)
        command += ["-initrd", ",".join(values)]
    ours = emulated(qemu_profile.Multiboot1(), guest, str(guest), case, modules)
    compared(command, tmp_path, ours, case, QEMU)


def _kept(descriptors: bytes) -> list[tuple[int, int, int, int]]:
    """What of UEFI's map is not free afterwards: address, pages, type, attributes."""
    size = uefi.DESCRIPTOR_SIZE
    found = [descriptors[at : at + size] for at in range(0, len(descriptors), size)]
    return [
        (d.start, d.pages, d.type, d.attributes) for d in map(_descriptor, found) if d.type not in uefi.FREE
    ]


@dataclass(frozen=True)
class _Descriptor:
    type: int
    start: int
    pages: int
    attributes: int


def _descriptor(data: bytes) -> _Descriptor:
    numbers = [int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 24, 32)]
    return _Descriptor(numbers[0] & 0xFFFFFFFF, *numbers[1:])


def _tables(fields: dict[str, Any]) -> tuple[bytes, bytes, list[bytes]]:
    """UEFI's system table and the head of its services, without checksums and the number of tables; those."""
    (system,), (services,) = fields.pop("block system_table"), fields.pop("block runtime_services")
    (found,) = fields.pop("block configuration")
    entries = [found.bytes[at : at + 24] for at in range(0, len(found.bytes), 24)]
    head = system.bytes[:16] + system.bytes[20:104] + system.bytes[112:]
    return head, services.bytes[:16], entries


def _loaded(descriptors: bytes) -> list[tuple[int, int]]:
    """What a loader has taken below the 32 MiB that are in every machine: address, pages."""
    size = uefi.DESCRIPTOR_SIZE
    found = map(_descriptor, (descriptors[at : at + size] for at in range(0, len(descriptors), size)))
    return [(d.start, d.pages) for d in found if d.type == MemoryType.LOADER_DATA and d.start < 32 * MiB]


EFI_CASES = {
    **{name: replace(CASES[name], memory=512) for name in ("nothing", "modules", "at 1 MiB, module")},
    "below 1 MiB, 256 MiB": replace(CASES["below 1 MiB"], memory=256),
    "too much for below, 2 GiB": replace(CASES["too much for below"], memory=2048),
    "over boot services": Case(linked=14 * MiB, bss=12 * MiB, modules=[(bytes(9 * MiB), "")], memory=512),
}


@pytest.mark.parametrize("name", EFI_CASES)
def test_grub_on_uefi(qemu: Path, grub_efi: Grub, compile_guest: Any, name: str, tmp_path: Path) -> None:
    case = EFI_CASES[name]
    guest, modules = compile_guest(case), files(case, tmp_path)
    menu = Menu("multiboot2", guest, case.cmdline, modules)
    started = grub_efi.efi(qemu, menu, tmp_path, memory=case.memory)
    ours = emulated(efi_profile.Multiboot2(), guest, guest.name, case, modules)
    left, right, allowed = observed(started, tmp_path, ours, case, GRUB)
    maps, tables = [], []
    for fields in (left, right):
        tables.append(_tables(fields))
        del fields["information.size"]
        (tag,) = [key for key in fields if key.endswith("EFI_MEMORY_MAP")]
        maps.append(fields.pop(tag)[8:])
    assert differences(left, right) == allowed
    assert tables[0][:2] == tables[1][:2]
    assert {*tables[1][2]} <= {*tables[0][2]}
    assert _kept(maps[0]) == _kept(maps[1])
    assert _loaded(maps[0]) == _loaded(maps[1])


# GRUB's own variables, which nobody promises; the handle is a pointer into its loader's pool, not the same
# in every GRUB; and TCG does not mark a segment as accessed
ALIVE = ("rdi", "rbp", "r8", "r10", "r11", "r12", "r13", "r14", "r15")
ALIVE_HIDDEN = NOT_COPIED | {
    "hidden.cs": (Segment(0x38, 0, 0xFFFFFFFF, 0xA09A), Segment(0x38, 0, 0xFFFFFFFF, 0xA09B))
}
ALIVE_CASES = {
    **{name: EFI_CASES[name] for name in ("nothing", "modules", "at 1 MiB, module", "below 1 MiB, 256 MiB")},
    "2 GiB": Case(cmdline="a", memory=2048),
}


@pytest.mark.parametrize("name", ALIVE_CASES)
def test_grub_on_uefi_whose_boot_services_stay_alive(
    qemu: Path, grub_efi: Grub, compile_guest: Any, name: str, tmp_path: Path
) -> None:
    case = ALIVE_CASES[name]
    guest, modules = compile_guest(case, efi64=True), files(case, tmp_path)
    menu = Menu("multiboot2", guest, case.cmdline, modules)
    started = grub_efi.efi(qemu, menu, tmp_path, memory=case.memory)
    ours = emulated(efi_profile.Multiboot2(), guest, guest.name, case, modules)
    left, right, allowed = observed(started, tmp_path, ours, case, ALIVE_HIDDEN)
    tables, services = [], []
    for fields in (left, right):
        tables.append(_tables(fields))
        (head,) = fields.pop("block boot_services")
        services.append((head.address, head.bytes[:16]))
        for register in ALIVE:
            del fields[f"cpu.{register}"]
        below = case.memory * MiB - fields.pop("cpu.rsp")  # which is as deep as GRUB's shell was
        assert below in range(0x15F000, 0x15F000 + 0x1000, 16)
        (handle,) = [key for key in fields if key.endswith("EFI64_IMAGE_HANDLE")]
        assert int.from_bytes(fields.pop(handle), "little") in range(MiB, case.memory * MiB)
    assert differences(left, right) == allowed
    assert (tables[0][:2], services[0]) == (tables[1][:2], services[1])
    assert {*tables[1][2]} <= {*tables[0][2]}
    kinds = [key.partition(", ")[2] for key in left if key.startswith("tag ")]
    assert {"EFI_BOOT_SERVICES", "EFI64"} <= {*kinds}
    assert not {"EFI_MEMORY_MAP", "MEMORY_MAP", "MEMORY"} & {*kinds}


def test_a_difference_is_seen(compile_guest: Any, tmp_path: Path) -> None:
    profile = grub_bios.Multiboot2()
    dumps = []
    for name in ("nothing", "module"):
        case = CASES[name]
        guest = compile_guest(case)
        dumps.append(by_name(emulated(profile, guest, guest.name, case, files(case, tmp_path))))
    found = differences(*dumps)
    assert found["modules"][0] == ()
    assert "tag 4, MODULE" in found
