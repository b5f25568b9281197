"""GRUB and hello on a processor and a BIOS that share no code with QEMU's, nor with the emulator's: Bochs."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import entry_dump
import grub
import multiboot_dump
from bochs import Bochs
from bootbuild.abi.multiboot import MultibootInfo
from bootbuild.api import Profile
from bootbuild_baremetal.environments import grub_bios
from grub import Grub, Menu
from multiboot_modelled import Case, by_name, differences, emulated, files
from test_multiboot_images import built

Images = dict[tuple[str, int], Path]  # of a target, at a width
CMDLINE = "greeting=hello and=more"
MODULE = b"the bytes of a module, of an odd length\n" * 111 + b"\0"
PROTOCOLS: dict[str, tuple[grub.Command, Profile]] = {
    "multiboot1": ("multiboot", grub_bios.Multiboot1()),
    "multiboot2": ("multiboot2", grub_bios.Multiboot2()),
}
CACHES_OFF = 0x60000000  #: CR0.CD and CR0.NW: SeaBIOS has switched caches on, Bochs' BIOS leaves them off
# A BIOS has its own tables and memory; this PC has a screen; and its processor, as a real one, marks a
# code segment as accessed
NOT_GRUBS = {
    *("ACPI_OLD", "APM", "MEMORY", "MEMORY_MAP", "FRAMEBUFFER", "information.size"),
    *("block gdt", "block memory_map", "mem_lower", "mem_upper", "mmap_length", "elf_addr"),
}
SCREEN = 0x1800  #: flags of Multiboot 1: VBE, framebuffer


@pytest.fixture(scope="module")
def images(
    hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], Path]:
    found = {}
    for width, payload in ((64, hello64), (32, hello32)):
        text = f"""
            api = 1
            [payload]
            path = {json.dumps(str(payload))}
            startup = "startup_{width}"
            width = {width}
            [targets.multiboot1]
            profiles = ["grub"]
            [targets.multiboot2]
            profiles = ["grub-bios"]
        """
        for image in built(text, tmp_path_factory.mktemp(f"hello{width}")).images:
            (target,) = image.targets
            found[target, width] = Path(image.path)
    return found


@pytest.mark.parametrize("width", [64, 32])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hello_gets_to_its_end(
    bochs: Bochs,
    grub_pc: Grub,
    images: dict[tuple[str, int], Path],
    protocol: str,
    width: int,
    tmp_path: Path,
) -> None:
    module = tmp_path / "module"
    module.write_bytes(MODULE)
    menu = Menu(PROTOCOLS[protocol][0], images[protocol, width], CMDLINE, [(module, "its own")])
    transcript = bochs.run(grub_pc.disk(menu, tmp_path), tmp_path, ["^hello: done"], fail=grub.FAILS)
    assert transcript.reached, str(transcript)
    lines = transcript.text.splitlines()
    assert f"hello from {protocol} on bare metal" in lines
    assert f"cmdline {CMDLINE}" in lines
    (line,) = (line for line in lines if line.startswith("module 0 "))
    assert line.endswith(f"size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x} cmdline its own")
    assert "memory 0x100000 0x7ef0000 ram" in lines
    assert any(line.startswith("rsdp 0x") for line in lines)


def of_grub(found: dict[str, Any]) -> dict[str, Any]:
    """All that GRUB decides; what is in the one block of Multiboot 1, field by field."""
    kept = dict(found)
    if "block information" in kept:
        (block,), (sections,) = kept.pop("block information"), kept.pop("block sections")
        fields = asdict(MultibootInfo.unpack(block.bytes))
        fields["flags"] &= ~SCREEN
        names = [name for name in fields if not name.startswith(("vbe_", "framebuffer_", "color_"))]
        kept |= {name: fields[name] for name in names} | {"information": block.address}
        kept["sections"] = sections.bytes
    return {name: value for name, value in kept.items() if name.rpartition(", ")[2] not in NOT_GRUBS}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_grub_leaves_the_state_of_the_profile(
    bochs: Bochs, grub_pc: Grub, gcc: Path, protocol: str, tmp_path: Path
) -> None:
    """The profiles are of QEMU and SeaBIOS: all that is not a BIOS's own is the same under another one."""
    command, profile = PROTOCOLS[protocol]
    guest = entry_dump.compile_guest(gcc, tmp_path, multiboot=True, com1=True)
    case = Case(cmdline=CMDLINE, modules=[(MODULE, "a=1 b"), (MODULE, "")])
    modules = files(case, tmp_path)
    disk = grub_pc.disk(Menu(command, guest, CMDLINE, modules), tmp_path)
    transcript = bochs.run(disk, tmp_path, [entry_dump.DONE], fail=grub.FAILS)
    assert transcript.reached, str(transcript)
    real = by_name(multiboot_dump.parse(transcript.text))
    ours = by_name(replace(emulated(profile, guest, guest.name, case, modules), hidden={}))
    assert differences(of_grub(real), of_grub(ours)) == {
        "cpu.cr0": (ours["cpu.cr0"] | CACHES_OFF, ours["cpu.cr0"])
    }
