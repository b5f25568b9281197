"""What GRUB and QEMU leave at a Multiboot entry keeps the specification. Source: both, run here."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

import entry_dump
import grub
import monitors
import multiboot_dump
from bootbuild.abi import multiboot, multiboot2
from grub import Grub, Menu
from multiboot_dump import MultibootDump

CMDLINE = "root=/dev/none quiet"
MODULE = b"the bytes of a module, of an odd length\n" * 111 + b"\0"


@pytest.fixture(scope="module")
def guest(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return entry_dump.compile_guest(gcc, tmp_path_factory.mktemp("guest"), multiboot=True)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("module") / "module.bin"
    path.write_bytes(MODULE)
    return path


@pytest.fixture(scope="module", params=["multiboot", "multiboot2"])
def from_bios(
    request: pytest.FixtureRequest,
    qemu: Path,
    grub_pc: Grub,
    guest: Path,
    module: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> MultibootDump:
    folder = tmp_path_factory.mktemp("bios")
    command = grub_pc.bios(qemu, Menu(request.param, guest, CMDLINE, [(module, "a=1 b")]), folder)
    return multiboot_dump.observe(command, folder, grub.FAILS)[0]


@pytest.fixture(scope="module")
def from_efi(
    qemu: Path, grub_efi: Grub, guest: Path, module: Path, tmp_path_factory: pytest.TempPathFactory
) -> MultibootDump:
    folder = tmp_path_factory.mktemp("efi")
    command = grub_efi.efi(qemu, Menu("multiboot2", guest, CMDLINE, [(module, "a=1 b")]), folder)
    return multiboot_dump.observe(command, folder, grub.FAILS)[0]


@pytest.fixture(scope="module")
def from_qemu(
    qemu: Path, guest: Path, module: Path, tmp_path_factory: pytest.TempPathFactory
) -> MultibootDump:
    folder = tmp_path_factory.mktemp("qemu")
    command = monitors.qemu_kernel(qemu, guest, cmdline=CMDLINE, initrd=module, debug_port=True)
    return multiboot_dump.observe(command, folder)[0]


def _promised(dump: MultibootDump) -> None:
    """Multiboot 0.6.96 §3.2 and Multiboot2 2.0 §3.3: what every kernel may rely on."""
    assert dump.cpu["cr0"] & 0x80000001 == 1
    assert dump.cpu["eflags"] & (1 << 17 | 1 << 9) == 0
    assert dump.a20
    for name, access in {"cs": 0xC09A, **dict.fromkeys(("ds", "es", "ss", "fs", "gs"), 0xC092)}.items():
        hidden = dump.hidden[name]
        assert (hidden.base, hidden.limit, hidden.attributes & ~1) == (0, 0xFFFFFFFF, access), name
    assert dump.cpu["ebx"] == dump.block("information").address
    (module,) = dump.modules
    assert (module.end - module.start, module.crc32) == (len(MODULE), zlib.crc32(MODULE))
    assert module.start % 4096 == 0


def test_grub_on_a_bios_keeps_the_promises(from_bios: MultibootDump) -> None:
    _promised(from_bios)


def test_grub_on_uefi_keeps_the_promises(from_efi: MultibootDump) -> None:
    _promised(from_efi)
    assert from_efi.cpu["eax"] == multiboot2.MAGIC
    assert from_efi.cpu["ebx"] % 8 == 0


def test_qemu_keeps_the_promises(from_qemu: MultibootDump) -> None:
    _promised(from_qemu)
    assert from_qemu.cpu["eax"] == multiboot.MAGIC


def test_an_incomplete_dump_is_an_error() -> None:
    with pytest.raises(ValueError, match="no complete dump"):
        multiboot_dump.parse("dump: [begin]\ndump: [cpu]\ndump: eax=0x00000001\n")
    with pytest.raises(ValueError, match="gdt: 1 bytes of 2"):
        multiboot_dump.parse("dump: [begin]\ndump: [gdt]\ndump: size=0x2\ndump: bytes=x00\ndump: [end]\n")
