"""Each PVH profile sets up, register for register and field for field, what the real program hands over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import entry_dump
import modelled
import monitors
import toolstack
from bootbuild.api import FileContent, Filling, MemoryContent, Offer, Profile
from bootbuild.formats.elf_read import read_elf
from debian_kernels import Kernels
from entry_dump import EntryDump, Segment
from oracle import run_until

MEMORY = 128  #: MiB
CMDLINE = "root=/dev/none quiet"
MODULE = b"the bytes of a module, of an odd length\n" * 111 + b"\0"
OFFERS = {
    "nothing": ("", b""),
    "command line": (CMDLINE, b""),
    "module": ("", MODULE),
    "both": (CMDLINE, MODULE),
}
# What the profile does not copy, as name → (QEMU, profile); anything else that differs fails. A code segment
# that is not marked accessed exists under TCG only (VMX refuses the entry), and no PVH guest can read LDTR's
# hidden part.
QEMU_ALONE = {
    "hidden.cs": (Segment(8, 0, 0xFFFFFFFF, 0xC09A), Segment(8, 0, 0xFFFFFFFF, 0xC09B)),
    "hidden.ldtr": (Segment(0, 0, 0xFFFF, 0x82), Segment(0, 0, 0, 0)),
}


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


def _modelled(profile: Profile, guest: Path, offer: str) -> EntryDump:
    cmdline, module = OFFERS[offer]
    image = read_elf(FileContent(guest), guest.name)
    modules = (("module", MemoryContent(module), b""),) if module else ()
    scene = profile.scene(image, Offer(cmdline.encode(), modules, MEMORY << 20), Filling.EXACT)
    return modelled.dump(scene)


def _ramdisk(offer: str, folder: Path) -> Path | None:
    path = folder / "module.bin"
    path.write_bytes(OFFERS[offer][1])
    return path if OFFERS[offer][1] else None


@pytest.mark.parametrize("offer", OFFERS)
def test_qemu(qemu: Path, guest: Path, offer: str, tmp_path: Path) -> None:
    from bootbuild_pvh.environments import Qemu

    command = monitors.qemu_kernel(
        qemu,
        guest,
        memory=MEMORY,
        cmdline=OFFERS[offer][0],
        initrd=_ramdisk(offer, tmp_path),
        debug_port=True,
    )
    log = tmp_path / "cpu.log"
    transcript = run_until([*command, *entry_dump.log_options(log)], [entry_dump.DONE], wait=True)
    assert transcript.reached, str(transcript)
    real = entry_dump.parse(transcript.text, log.read_text())
    assert differences(real, _modelled(Qemu(), guest, offer)) == QEMU_ALONE


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
    from bootbuild_pvh.environments import XenDomU

    assert differences(from_xl[offer], _modelled(XenDomU(), guest, offer)) == {}


def test_a_difference_is_seen(guest: Path) -> None:
    from bootbuild_pvh.environments import XenDomU

    with_both, with_none = (_modelled(XenDomU(), guest, offer) for offer in ("both", "nothing"))
    assert differences(with_both, with_both) == {}
    found = differences(with_both, with_none)
    assert found["start_info.nr_modules"] == (1, 0)
    assert found["cmdline"] == (CMDLINE.encode(), None)
