"""What target linux makes starts for real: by QEMU, GRUB on BIOS and UEFI, and a running Linux's kexec."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import grub
import monitors
from first_linux import FirstLinux
from grub import Grub, Menu
from hello_bzimage import Kind, hello_bzimage
from oracle import run_until

ROOT = Path(__file__).resolve().parents[2]
CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"
KINDS: list[Kind] = [(64, "none"), (64, "lz4"), (32, "lz4")]


@dataclass(frozen=True)
class Hello:
    """hello as a bzImage, and the initrd that is handed to it."""

    images: dict[Kind, Path]
    module: Path


@pytest.fixture(scope="module")
def hello(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Hello:
    folder = tmp_path_factory.mktemp("hello")
    module = folder / "module.bin"
    module.write_bytes(MODULE)
    sources = {64: hello64, 32: hello32}
    return Hello({kind: hello_bzimage(sources, kind, folder) for kind in KINDS}, module)


def said(text: str, entry: str, cmdline: str) -> None:
    """What hello prints of the pair, the command line and the initrd."""
    lines = text.replace("\r", "").splitlines()
    assert "hello: done" in lines, text
    assert f"hello from {entry} on tcg" in lines
    assert f"cmdline {cmdline}" in lines
    (module,) = (line for line in lines if line.startswith("module 0 "))
    assert f"size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x}" in module
    assert any(re.match(r"memory 0x100000 0x[0-9a-f]+ ram", line) for line in lines)
    assert "unknown operation: -38" in lines


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_starts_hello_in_real_mode(qemu: Path, hello: Hello, kind: Kind) -> None:
    command = monitors.qemu_kernel(qemu, hello.images[kind], cmdline=CMDLINE, initrd=hello.module)
    transcript = run_until(command, ["^hello: done"])
    said(transcript.text, "linux-16", CMDLINE)
    assert re.search(r"^rsdp 0xf[0-9a-f]{4}\b", transcript.text, re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_grub_starts_hello_in_32_bit_mode(
    qemu: Path, grub_pc: Grub, hello: Hello, kind: Kind, tmp_path: Path
) -> None:
    menu = Menu("linux", hello.images[kind], CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    said(transcript.text, "linux-32", f"BOOT_IMAGE=/kernel {CMDLINE}")
    assert re.search(r"^rsdp 0xf[0-9a-f]{4}\b", transcript.text, re.MULTILINE)


def test_grub_starts_hello_in_real_mode(qemu: Path, grub_pc: Grub, hello: Hello, tmp_path: Path) -> None:
    menu = Menu("linux16", hello.images[64, "lz4"], CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    said(transcript.text, "linux-16", f"BOOT_IMAGE=/kernel {CMDLINE}")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_grub_starts_hello_on_uefi(
    qemu: Path, grub_efi: Grub, hello: Hello, kind: Kind, tmp_path: Path
) -> None:
    menu = Menu("linux", hello.images[kind], CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_efi.efi(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS, timeout=60)
    said(transcript.text, "linux-32", f"BOOT_IMAGE=/kernel {CMDLINE}")
    assert re.search(
        r"^rsdp 0x1f[0-9a-f]{6}\b", transcript.text, re.MULTILINE
    )  # by EFI's configuration table


@pytest.mark.parametrize("kind", KINDS)
def test_kexec_starts_hello_in_64_bit_mode(
    first_linux: FirstLinux, hello: Hello, kind: Kind, tmp_path: Path
) -> None:
    """Debian's 6.1 puts it at the end of RAM, from where it moves down."""
    given = {"initrd": MODULE, "cmdline": CMDLINE.encode() + b"\0"}
    said(
        first_linux.start(hello.images[kind].read_bytes(), tmp_path, [], "hello: done", given),
        "linux-64",
        CMDLINE,
    )
