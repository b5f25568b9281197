"""Each PVH profile sets up, register for register and field for field, what the real program hands over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import entry_dump
import modelled
import monitors
import tiny_guest
import toolstack
from bootbuild.api import FileContent, Filling, MemoryContent, Offer, Profile, Scene
from bootbuild.boot.prove import prove
from bootbuild.formats.elf_read import read_elf
from bootbuild_pvh.environments import Qemu, QemuMicrovm, XenDom0, XenDomU
from debian_kernels import Kernels
from entry_dump import EntryDump, Segment
from oracle import run_until
from tiny_guest import u32

MEMORY = 128  #: MiB
SMALL = 40  #: MiB, of which there is more below the guest than above it
CMDLINE = "root=/dev/none quiet"
MODULE = b"the bytes of a module, of an odd length\n" * 111 + b"\0"
OFFERS = {
    "nothing": ("", b""),
    "command line": (CMDLINE, b""),
    "module": ("", MODULE),
    "both": (CMDLINE, MODULE),
}
# What a profile does not copy, as name → (QEMU, profile); anything else that differs fails. A code segment
# that is not marked accessed exists under TCG only (VMX refuses the entry), and no PVH guest can read LDTR's
# hidden part.
RESET_LDTR = {"hidden.ldtr": (Segment(0, 0, 0xFFFF, 0x82), Segment(0, 0, 0, 0))}
NOT_ACCESSED = {"hidden.cs": (Segment(8, 0, 0xFFFFFFFF, 0xC09A), Segment(8, 0, 0xFFFFFFFF, 0xC09B))}
QEMU: dict[str, tuple[Profile, dict[str, Any]]] = {  # machine → its profile, and what that does not copy
    "pc": (Qemu(), RESET_LDTR | NOT_ACCESSED),
    "microvm": (QemuMicrovm(), RESET_LDTR),
}
XEN_HOST = 384  #: MiB of the host that xen-dom0's profile leaves to Xen


@pytest.fixture(scope="module")
def guest(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return entry_dump.compile_guest(gcc, tmp_path_factory.mktemp("guest"))


def differences(real: EntryDump, ours: EntryDump) -> dict[str, Any]:
    """Every field that is not the same, as name → (real, ours); `hypervisors` is the platform's to answer."""

    def unequal(name: str, left: Any, right: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            for key in {**left, **right}:
                yield from unequal(f"{name}.{key}", left.get(key), right.get(key))
        elif left != right:
            yield name, (left, right)

    names = [field.name for field in fields(EntryDump) if field.name != "hypervisors"]
    return dict(pair for name in names for pair in unequal(name, getattr(real, name), getattr(ours, name)))


def _scene(
    profile: Profile, guest: Path, offer: str, module_cmdline: str = "", memory: int = MEMORY
) -> Scene:
    cmdline, module = OFFERS[offer]
    image = read_elf(FileContent(guest), guest.name)
    modules = (("module", MemoryContent(module), module_cmdline.encode()),) if module else ()
    return profile.scene(image, Offer(cmdline.encode(), modules, memory << 20), Filling.EXACT)


def _modelled(profile: Profile, guest: Path, offer: str) -> EntryDump:
    return modelled.dump(_scene(profile, guest, offer))


def _ramdisk(offer: str, folder: Path) -> Path | None:
    path = folder / "module.bin"
    path.write_bytes(OFFERS[offer][1])
    return path if OFFERS[offer][1] else None


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("machine", QEMU)
def test_qemu(qemu: Path, guest: Path, machine: str, offer: str, tmp_path: Path) -> None:
    command = monitors.qemu_kernel(
        qemu,
        guest,
        machine=machine,
        memory=MEMORY,
        cmdline=OFFERS[offer][0],
        initrd=_ramdisk(offer, tmp_path),
        debug_port=True,
    )
    real, _ = entry_dump.observe(command, tmp_path)
    profile, not_copied = QEMU[machine]
    assert differences(real, _modelled(profile, guest, offer)) == not_copied


# QEMU's options beside those of `monitors`, and the base of pvh.bin's own GDT: None is as in the profile.
OPTIONS = [
    ("pc", 512, "-smp 4", None),
    ("microvm", 512, "-smp 4", None),
    ("pc", MEMORY, "-vga std", 0xCA118),
    ("pc", MEMORY, "-device e1000", 0xC1118),
]


@pytest.mark.parametrize(("machine", "memory", "options", "table"), OPTIONS)
def test_only_other_option_roms_move_qemus_descriptor_table(
    qemu: Path, guest: Path, machine: str, memory: int, options: str, table: int | None, tmp_path: Path
) -> None:
    command = monitors.qemu_kernel(qemu, guest, machine=machine, memory=memory, debug_port=True)
    real, _ = entry_dump.observe([*command, *options.split()], tmp_path)
    ours = modelled.dump(_scene(QEMU[machine][0], guest, "nothing", memory=memory))
    moved = {"cpu.gdtr_base": (table, ours.cpu["gdtr_base"])} if table else {}
    found = {name: pair for name, pair in differences(real, ours).items() if name.startswith("cpu.")}
    assert found == moved


# Ways out that microvm has, and one that it lacks; what follows prints an H on COM1.
ENDS = {
    "power off by the event device": (b"\xc6\x05" + u32(0xFEA00200) + b"\x34", True),
    "reset by the event device": (b"\xc6\x05" + u32(0xFEA00202) + b"\x42", True),
    "reset by the keyboard controller": (b"\xb0\xfe\xe6\x64", False),
    "power off by PM1": (b"\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef", False),
    "reset by the chipset": (b"\x66\xba\xf9\x0c\xb0\x06\xee", False),
}


@pytest.mark.parametrize("way", ENDS)
def test_microvm_ends_by_its_event_device_alone(qemu: Path, tmp_path: Path, way: str) -> None:
    code, ends = ENDS[way]
    elf = tmp_path / "guest.elf"
    elf.write_bytes(tiny_guest.guest(later=code, startup=b"\x66\xba\xf8\x03\xb0\x48\xee\xfa\xf4\xeb\xfd"))
    command = monitors.qemu_kernel(qemu, elf, machine="microvm")
    transcript = run_until(command, [] if ends else ["H"], timeout=10)
    assert transcript.returncode == 0 if ends else transcript.reached, str(transcript)
    emulated = prove(tiny_guest.subject(elf.read_bytes()), QemuMicrovm())
    assert [finding.rule for finding in emulated.findings] == (["BB-B022"] if ends else [])


PM1_SLEEPS = {  # to PM1 control at 0x604: QEMU ends (0), sleeps (None), or goes on ("H")
    "SLP_TYP 0": (b"\x66\xb8\x00\x20\x66\xef", 0),
    "SLP_TYP 1": (b"\x66\xb8\x00\x24\x66\xef", None),
    "SLP_TYP 2": (b"\x66\xb8\x00\x28\x66\xef", 0),
    "SLP_TYP 5": (b"\x66\xb8\x00\x34\x66\xef", "H"),
    "no SLP_EN": (b"\x66\xb8\x00\x08\x66\xef", "H"),
    "four bytes": (b"\xb8\x00\x20\x00\x00\xef", "H"),
}
A_WHILE = b"\xb9" + u32(100_000_000) + b"\x49\x75\xfd"  # QEMU's CPU runs on for a moment after a power-off


@pytest.mark.parametrize("way", PM1_SLEEPS)
def test_qemu_s_pc_sleeps_by_pm1_as_the_profile_does(qemu: Path, tmp_path: Path, way: str) -> None:
    code, end = PM1_SLEEPS[way]
    startup = b"\x66\xba\xf8\x03\xb0\x48\xee\xfa\xf4\xeb\xfd"
    code = b"\x66\xba\x04\x06" + code
    elf = tmp_path / "guest.elf"
    elf.write_bytes(tiny_guest.guest(later=code + A_WHILE, startup=startup))
    transcript = run_until(monitors.qemu_kernel(qemu, elf), ["H"], timeout=10 if end is not None else 4)
    assert (transcript.reached, transcript.returncode) == (end == "H", 0 if end == 0 else None), str(
        transcript
    )
    emulated = prove(tiny_guest.subject(tiny_guest.guest(later=code, startup=startup)), Qemu())
    assert [finding.rule for finding in emulated.findings] == ([] if end == "H" else ["BB-B022"])


def _dom0_map(text: str) -> list[tuple[int, int, int]]:
    """The map that Xen prints under dom0=verbose, as (address, size, type)."""
    types = {"usable": 1, "reserved": 2, "ACPI data": 3, "ACPI NVS": 4, "unusable": 5}
    _, _, after = text.partition("Dom0 memory map:")
    lines = re.findall(r"^\(XEN\)  \[(\w+), (\w+)\] \((.*)\)$", after, re.MULTILINE)
    return [(int(first, 16), int(last, 16) - int(first, 16) + 1, types[kind]) for first, last, kind in lines]


@pytest.mark.parametrize(("offer", "memory"), [*((offer, MEMORY) for offer in OFFERS), ("both", SMALL)])
def test_xen_dom0(qemu: Path, kernels: Kernels, guest: Path, offer: str, memory: int, tmp_path: Path) -> None:
    """The memory map is not handed over: the one that Xen answers with is compared with the one it prints."""
    module = _ramdisk(offer, tmp_path)
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        guest,
        pvh=True,
        cmdline=OFFERS[offer][0],
        modules=[module] if module else [],
        memory=memory + XEN_HOST,
        dom0_memory=memory,
        xen_options="dom0=verbose",
    )
    real, transcript = entry_dump.observe(command, tmp_path, monitors.XEN_FAILS)
    # QEMU's Multiboot loader makes the file's name the string of the module
    scene = _scene(XenDom0(), guest, offer, str(module), memory)
    assert differences(real, modelled.dump(scene)) == {}
    ours = [(e.address, e.size, e.type) for e in scene.given.memory_map]
    assert ours == _dom0_map(transcript.text)


@pytest.fixture(scope="module")
def from_xl(
    qemu: Path, toolstack_kernels: Kernels, guest: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, EntryDump]:
    """What real domains said, one for each offer; hidden parts only of the first, which QEMU logged."""
    folder = tmp_path_factory.mktemp("xl")
    log = folder / "cpu.log"
    domains = {}
    for number, offer in enumerate(OFFERS):
        (folder / str(number)).mkdir()
        ramdisk = _ramdisk(offer, folder / str(number))
        domains[f"dump{number}"] = toolstack.Domain(guest, "pvh", OFFERS[offer][0], ramdisk, MEMORY)
    transcript, runs = toolstack.create(qemu, toolstack_kernels, domains, folder, entry_dump.log_options(log))
    assert transcript.reached, str(transcript)
    assert {run.state for run in runs.values()} == {"reboot"}, runs
    hidden = log.read_text()
    return {offer: entry_dump.parse(run.xen, hidden) for offer, run in zip(OFFERS, runs.values())}


@pytest.mark.parametrize("offer", OFFERS)
def test_xen_domu(from_xl: dict[str, EntryDump], guest: Path, offer: str) -> None:
    assert differences(from_xl[offer], _modelled(XenDomU(), guest, offer)) == {}


def test_a_difference_is_seen(guest: Path) -> None:
    with_both, with_none = (_modelled(XenDomU(), guest, offer) for offer in ("both", "nothing"))
    assert differences(with_both, with_both) == {}
    found = differences(with_both, with_none)
    assert found["start_info.nr_modules"] == (1, 0)
    assert found["cmdline"] == (CMDLINE.encode(), None)
