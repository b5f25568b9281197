"""An ELF64 file that QEMU and GRUB load by the addresses of its Multiboot 1 header, and Xen PV as ELF."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

import grub
import monitors
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import FileContent
from bootbuild.model.verdict import Outcome
from debian_kernels import Kernels
from grub import Grub, Menu
from oracle import run_until
from test_multiboot_images import UP, built

CMDLINE = "greeting=hello"


@pytest.fixture(scope="module")
def both(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hello at 3 MiB, where a head fits below it, by Multiboot 1 and Xen PV from one file."""
    folder = tmp_path_factory.mktemp("both")
    raw = bytearray(hello64.read_bytes())
    struct.pack_into("<Q", raw, 24, struct.unpack_from("<Q", raw, 24)[0] + 0x200000)  # e_entry is physical
    for at in range(64, 64 + 56 * struct.unpack_from("<H", raw, 56)[0], 56):
        if struct.unpack_from("<I", raw, at)[0] == 1:
            (paddr,) = struct.unpack_from("<Q", raw, at + 24)
            struct.pack_into("<Q", raw, at + 24, paddr + 0x200000)
    (folder / "higher.elf").write_bytes(raw)
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(folder / "higher.elf"))}
        startup = "startup_64"
        cmdline = "{CMDLINE}"
        [targets.multiboot1]
        elf_class = 64
        addresses = true
        [targets.xen-pv]
        [output]
        combine = ["multiboot1", "xen-pv"]
    """
    (image,) = built(text, folder).images
    assert {v.name for v in image.verdicts} >= {"multiboot1@grub", "multiboot1@qemu", "xen-pv@domu"}
    assert all(v.outcome is Outcome.BOOTED for v in image.verdicts), image.verdicts
    assert read_elf(FileContent(Path(image.path)), "image").bits == 64
    return Path(image.path)


def test_qemu_starts_an_elf64_by_addresses(qemu: Path, both: Path) -> None:
    transcript = run_until(monitors.qemu_kernel(qemu, both, cmdline=CMDLINE), ["^hello: done"], timeout=20)
    assert transcript.reached, str(transcript)
    assert "hello from multiboot1 on tcg" in transcript.text


def test_grub_starts_an_elf64_by_addresses(qemu: Path, grub_pc: Grub, both: Path, tmp_path: Path) -> None:
    menu = Menu("multiboot", both, CMDLINE, [])
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    assert transcript.reached, str(transcript)
    assert "hello from multiboot1 on tcg" in transcript.text


def test_xen_starts_the_same_file_as_pv_dom0(qemu: Path, kernels: Kernels, both: Path) -> None:
    """Xen reads it as ELF, and its notes: the addresses of the header are not Xen's."""
    command = monitors.xen_dom0(qemu, kernels.xen, both, pvh=False, cmdline=CMDLINE)
    transcript = run_until(command, ["hello: done"], fail=monitors.XEN_FAILS, timeout=60)
    assert transcript.reached, str(transcript)
    assert "hello from xen-pv on xen" in transcript.text
    assert f"cmdline {CMDLINE}" in transcript.text


@pytest.mark.slow
def test_qemu_starts_debians_elf64_by_addresses(
    qemu: Path, kernels: Kernels, initrd: Path, tmp_path: Path
) -> None:
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernels.cloud.vmlinux))}
        guest = "linux"
        startup = "startup_64"
        [targets.multiboot1]
        elf_class = 64
        addresses = true
        [targets.xen-pv]
        entry = "native"
        startup = "x86_64_start_reservations"
        profiles = ["domu"]
        [output]
        combine = ["multiboot1", "xen-pv"]
    """
    (image,) = built(text, tmp_path).images
    assert all(v.outcome is Outcome.BOOTED for v in image.verdicts), image.verdicts
    command = monitors.qemu_kernel(
        qemu, Path(image.path), memory=512, cmdline="console=ttyS0 panic=-1", initrd=initrd
    )
    transcript = run_until(command, [UP], fail=["Kernel panic"], timeout=120)
    assert transcript.reached, str(transcript)
