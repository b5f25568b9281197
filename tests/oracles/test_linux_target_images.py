"""What target linux makes starts for real: by QEMU, GRUB on BIOS and UEFI, and a running Linux's kexec."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import grub
import monitors
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.model.payload import Payload
from bootbuild_baremetal.linux_options import LinuxOptions
from bootbuild_baremetal.linux_target import Linux
from debian_kernels import Kernels
from grub import Grub, Menu
from oracle import Transcript, run_until

ROOT = Path(__file__).resolve().parents[2]
CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"
KINDS = [(64, "none"), (64, "lz4"), (32, "lz4")]


@dataclass(frozen=True)
class Hello:
    """hello as a bzImage, and the initrd that is handed to it."""

    images: dict[tuple[int, str], Path]
    module: Path


@pytest.fixture(scope="module")
def hello(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Hello:
    folder = tmp_path_factory.mktemp("hello")
    module = folder / "module.bin"
    module.write_bytes(MODULE)
    images = {}
    for width, compress in KINDS:
        source = {64: hello64, 32: hello32}[width]
        opened, guest = open_payload(source), Native()
        startup = find_startup(opened.elf, f"startup_{width}", width, guest)
        payload = Payload(opened.elf, str(source), opened.format, opened.digest, guest.name, startup)
        made = Linux().contribute(payload, guest, LinuxOptions(compress=compress))  # type: ignore[arg-type]
        holder = container(made.container)
        images[width, compress] = folder / f"hello{width}-{compress}.bzimage"
        holder.write(payload, holder.lay_out(payload, [made]), images[width, compress])
    return Hello(images, module)


def said(transcript: Transcript, entry: str, cmdline: str) -> None:
    """What hello prints of the pair, the command line and the initrd."""
    assert transcript.reached, str(transcript)
    lines = transcript.text.replace("\r", "").splitlines()
    assert f"hello from {entry} on tcg" in lines
    assert f"cmdline {cmdline}" in lines
    (module,) = (line for line in lines if line.startswith("module 0 "))
    assert f"size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x}" in module
    assert any(re.match(r"memory 0x100000 0x[0-9a-f]+ ram", line) for line in lines)
    assert "unknown operation: -38" in lines


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_starts_hello_in_real_mode(qemu: Path, hello: Hello, kind: tuple[int, str]) -> None:
    command = monitors.qemu_kernel(qemu, hello.images[kind], cmdline=CMDLINE, initrd=hello.module)
    transcript = run_until(command, ["^hello: done"])
    said(transcript, "linux-16", CMDLINE)
    assert re.search(r"^rsdp 0xf[0-9a-f]{4}\b", transcript.text, re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_grub_starts_hello_in_32_bit_mode(
    qemu: Path, grub_pc: Grub, hello: Hello, kind: tuple[int, str], tmp_path: Path
) -> None:
    menu = Menu("linux", hello.images[kind], CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    said(transcript, "linux-32", f"BOOT_IMAGE=/kernel {CMDLINE}")
    assert re.search(r"^rsdp 0xf[0-9a-f]{4}\b", transcript.text, re.MULTILINE)


def test_grub_starts_hello_in_real_mode(qemu: Path, grub_pc: Grub, hello: Hello, tmp_path: Path) -> None:
    menu = Menu("linux16", hello.images[64, "lz4"], CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    said(transcript, "linux-16", f"BOOT_IMAGE=/kernel {CMDLINE}")


@pytest.mark.parametrize("kind", KINDS[1:])
def test_grub_starts_hello_on_uefi(
    qemu: Path, grub_efi: Grub, hello: Hello, kind: tuple[int, str], tmp_path: Path
) -> None:
    menu = Menu("linux", hello.images[kind], CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_efi.efi(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS, timeout=60)
    said(transcript, "linux-32", f"BOOT_IMAGE=/kernel {CMDLINE}")


def first(gcc: Path, hello: Hello, kind: tuple[int, str], folder: Path) -> Path:
    """An initrd for Linux whose first program starts hello."""
    sys.path.append(str(ROOT / "scripts"))
    from newc import Entry, archive

    init = folder / "init"
    source = Path(__file__).parent / "guest/kexec_init.c"
    define = f'-DCMDLINE="{CMDLINE}"'
    flags = ["-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", define]
    subprocess.run([gcc, *flags, "-o", init, source], check=True)
    entries = [
        Entry("init", 0o100755, init.read_bytes()),
        Entry("kernel", 0o100644, hello.images[kind].read_bytes()),
        Entry("initrd", 0o100644, hello.module.read_bytes()),
    ]
    path = folder / "first.cpio"
    path.write_bytes(archive(entries))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_kexec_starts_hello_in_64_bit_mode(
    qemu: Path, gcc: Path, kernels: Kernels, hello: Hello, kind: tuple[int, str], tmp_path: Path
) -> None:
    """Debian's 6.1 puts it at the end of RAM, from where it moves down."""
    command = monitors.qemu_kernel(
        qemu,
        kernels.cloud.vmlinuz,
        cmdline="console=ttyS0 panic=-1",
        initrd=first(gcc, hello, kind, tmp_path),
    )
    transcript = run_until(command, ["^hello: done"], fail=["Kernel panic.*"], timeout=120)
    said(transcript, "linux-64", CMDLINE)
