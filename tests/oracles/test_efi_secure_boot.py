"""Secure Boot for real: OVMF with Debian's key for tests starts what we make once it is signed."""

from __future__ import annotations

from pathlib import Path

import pytest

import efi_dump
import efi_paths
import ovmf as firmware
from bootbuild_efi.environments import SecureBoot
from debian_kernels import Kernels
from efi_paths import Started, SystemdBoot
from oracle import run_until
from ovmf import SecureOvmf
from pe_edits import tiny
from recipe_text import build_text
from tiny_linux import without_efi_stub

NOT_SIGNED = r"failed to load Boot[^\r\n]*Access Denied|Image[^\r\n]*(?:denied|Security Violation)"


def hello(kernel: Path, folder: Path) -> Path:
    record = build_text(
        f"""
        api = 1
        [payload]
        path = "{kernel}"
        startup = "startup_64"
        cmdline = "what=is signed"
        [targets.efi]
        profiles = ["ovmf", "secure-boot"]
        [expect]
        console = "hello: done"
        """,
        folder,
    )
    assert [v.outcome.name for image in record.images for v in image.verdicts] == ["BOOTED", "BOOTED"]
    return Path(record.images[0].path)


def test_what_is_signed_keeps_its_command_line(
    hello64: Path, secure_ovmf: SecureOvmf, qemu: Path, systemd_boot: Path, tmp_path: Path
) -> None:
    """systemd-boot, signed too, gives it LoadOptions, which take no place of what a signature covers."""
    image = secure_ovmf.signed(hello(hello64, tmp_path), tmp_path)
    loader = SystemdBoot(secure_ovmf.signed(systemd_boot, tmp_path))
    command = loader.command(secure_ovmf, qemu, Started(image, "from=the entry"), tmp_path)
    transcript = run_until(command, ["hello: done"], fail=[*firmware.FAILS, *efi_paths.FAILS], timeout=60)
    assert transcript.reached, str(transcript)
    assert "cmdline what=is signed\n" in transcript.text
    assert "\nflags 0x8\n" in transcript.text


def test_what_is_not_signed_is_not_started(
    hello64: Path, secure_ovmf: SecureOvmf, qemu: Path, tmp_path: Path
) -> None:
    command = secure_ovmf.from_disk(qemu, hello(hello64, tmp_path), tmp_path)
    transcript = run_until(command, [NOT_SIGNED], fail=["hello: "], timeout=60)
    assert transcript.reached, str(transcript)


def test_linux_locks_itself_down(
    kernels: Kernels, secure_ovmf: SecureOvmf, qemu: Path, tmp_path: Path
) -> None:
    """One without an EFI stub, which our application tells. This OVMF keeps 8 to 21 MiB for good, for S3."""
    payload = tmp_path / "stubless"
    payload.write_bytes(without_efi_stub(kernels.cloud.vmlinuz.read_bytes()))
    record = build_text(
        f"""
        api = 1
        [payload]
        path = "{payload}"
        symbols = "{kernels.cloud.system_map}"
        guest = "linux"
        startup = "startup_64"
        cmdline = "console=ttyS0"
        [[payload.modules]]
        path = "{kernels.initrd}"
        [targets.efi]
        profiles = ["secure-boot"]
        relocatable = "any"
        """,
        tmp_path,
    )
    (made,) = record.images
    assert [verdict.outcome.name for verdict in made.verdicts] == ["BOOTED"]
    image = secure_ovmf.signed(Path(made.path), tmp_path)
    command = secure_ovmf.from_disk(qemu, image, tmp_path, memory=1024)
    fail = [*firmware.FAILS, "Kernel panic"]
    transcript = run_until(command, ["bootbuild-initrd up"], fail=fail, timeout=120)
    assert transcript.reached, str(transcript)
    assert "Kernel is locked down from EFI Secure Boot" in transcript.text
    assert "secureboot: Secure boot enabled" in transcript.text


@pytest.fixture(scope="module")
def program(gcc: Path, secure_ovmf: SecureOvmf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """guest_efi/secure.c, signed."""
    folder = tmp_path_factory.mktemp("secure")
    inner = folder / "inner.efi"
    inner.write_bytes(tiny())
    images = {"UNSIGNED": inner, "SIGNED": secure_ovmf.signed(inner, folder)}
    options = [f'-D{name}="{path}"' for name, path in images.items()]
    program = folder / "program.efi"
    program.write_bytes(efi_dump.compile_pe(gcc, [efi_dump.SOURCE / "secure.c"], folder, options))
    return secure_ovmf.signed(program, folder)


def test_it_answers_as_the_profile_does(
    program: Path, secure_ovmf: SecureOvmf, qemu: Path, tmp_path: Path
) -> None:
    transcript = run_until(secure_ovmf.from_disk(qemu, program, tmp_path), [efi_dump.DONE], timeout=60)
    assert transcript.reached, str(transcript)
    real = efi_dump.parse(transcript.text)
    assert efi_dump.emulated(program, "", b"", 512, SecureBoot()) == real
    assert efi_dump.one(real, "unsigned")["load"] == [1 << 63 | 15]
    assert efi_dump.one(real, "signed")["load"] == [0]
