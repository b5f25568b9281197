"""Kernels that speak PVH or Linux's boot protocol, moved by real GRUB as in the emulator."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import grub
from bootbuild.host import Host
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from debian_kernels import Kernels
from grub import Grub, Menu
from oracle import run_until

GUEST = Path(__file__).parent / "guest/moved.S"
SCRIPT = """
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); dynamic PT_DYNAMIC; note PT_NOTE; }
SECTIONS {
  . = 0x100000;
  .text : { *(.text.start) } :text
  .rel.dyn : { *(.rel.*) } :text
  .rela.dyn : { *(.rela.*) } :text
  . = ALIGN(0x1000);
  .dynamic : { *(.dynamic) } :data :dynamic
  .data : { *(.data) } :data
  .note.Xen : { *(.note.Xen) } :data :note
}
"""
LINKED = 16 << 20
KERNELS = {"pvh": ("pvh", 32, ["-DPVH"]), "linux, 32": ("linux", 32, []), "linux, 64": ("linux", 64, [])}
SAID = re.compile(r"^([A-P]{8})\.$", re.MULTILINE)


def kernel(width: int, defines: list[str], folder: Path) -> Path:
    image, script = folder / "moved.elf", folder / "moved.ld"
    script.write_text(SCRIPT)
    options = [f"-m{width}", "-fPIE", "-nostdlib", "-static-pie", f"-Wl,-T,{script},-z,text,--build-id=none"]
    subprocess.run(["gcc", *options, *defines, "-o", image, GUEST], check=True)
    return image


@pytest.mark.parametrize("preference", ["low", "high"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_guest_is_moved(
    qemu: Path, gcc: Path, grub_pc: Grub, grub_efi: Grub, name: str, preference: str, tmp_path: Path
) -> None:
    guest, width, defines = KERNELS[name]
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel(width, defines, tmp_path)))}
        guest = "{guest}"
        width = {width}
        startup = "startup_{width}"
        load = {LINKED:#x}
        [targets.multiboot2]
        relocatable = "{preference}"
        [expect]
        console = "."
    """
    (tmp_path / "recipe.toml").write_text(text)
    host = Host.discover()
    (image,) = build(read(tmp_path / "recipe.toml", host, Overrides()), host).images
    assert [v.outcome for v in image.verdicts] == [Outcome.BOOTED] * 2, image.verdicts
    ours = [SAID.findall(v.runs[0].console.decode()) for v in image.verdicts]
    menu = Menu("multiboot2", Path(image.path))
    commands = (grub_pc.bios(qemu, menu, tmp_path), grub_efi.efi(qemu, menu, tmp_path))
    transcripts = [run_until(command, [SAID.pattern], fail=grub.FAILS, timeout=60) for command in commands]
    assert [SAID.findall(t.text.replace("\r", "")) for t in transcripts] == ours
    assert all(said and said != ["ABAAAAAA"] for said in ours)  # where it is linked


BRK = re.compile(r"memblock_reserve: \[0x0*([0-9a-f]+)-\w+\] setup_arch")  #: reserve_brk of Linux
START_KERNEL_MAP = 0xFFFFFFFF80000000


@pytest.mark.slow
@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_debians_kernel_finds_out_where_it_was_moved(
    qemu: Path, kernels: Kernels, grub_pc: Grub, grub_efi: Grub, firmware: str, tmp_path: Path
) -> None:
    """It lies where the emulated loader has it, and knows that."""
    flavour = kernels.cloud
    (tmp_path / "recipe.toml").write_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(flavour.vmlinux))}
        symbols = {json.dumps(str(flavour.system_map))}
        guest = "linux"
        startup = "startup_64"
        [targets.multiboot2]
        relocatable = "low"
        """
    )
    host = Host.discover()
    (image,) = build(read(tmp_path / "recipe.toml", host, Overrides()), host).images
    assert [v.outcome for v in image.verdicts] == [Outcome.BOOTED] * 2, image.verdicts
    profile = {"bios": "grub-bios", "efi": "grub-efi64"}[firmware]
    startup = next(v for v in image.verdicts if v.profile == profile).runs[0].stops[0].ip
    by = startup - (flavour.symbol("startup_64") - START_KERNEL_MAP)
    assert by
    menu = Menu("multiboot2", Path(image.path), "console=ttyS0 memblock=debug", [(kernels.initrd, "")])
    if firmware == "bios":
        command = grub_pc.bios(qemu, menu, tmp_path, memory=512)
    else:
        command = grub_efi.efi(qemu, menu, tmp_path, memory=512)
    transcript = run_until(command, ["bootbuild-initrd up"], fail=grub.FAILS, timeout=120)
    assert transcript.reached, transcript
    (place, *_) = BRK.findall(transcript.text)
    assert int(place, 16) == flavour.symbol("__brk_base") - START_KERNEL_MAP + by
