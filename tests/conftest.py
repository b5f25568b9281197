"""The real things that tests use: QEMU, gcc, Debian's kernels, the hello payloads. None is mocked.

What is not on this machine is skipped, saying what to install; with BOOTBUILD_REQUIRE_ORACLES=1 (as CI
sets) a skip or an expected failure is a failure, so that a green run means that everything was run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from importlib import resources
from pathlib import Path

import pytest

import debian_kernels
import oracle
from bochs import Bochs
from bootbuild.stubs.sources import include_directory
from debian_kernels import Kernels
from first_linux import FirstLinux, compiled
from grub import Grub
from oracle import Transcript
from ovmf import Ovmf, SecureOvmf
from tiny_bzimage import COMMANDS, Command
from workshop import FLAGS, Workshop

REPOSITORY = Path(__file__).resolve().parents[1]
os.environ.pop("PYTHONUNBUFFERED", None)  # users have none: it hides what Python flushes at its end


def _required(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip or an expected failure into a failure where everything is required."""
    if not (os.environ.get("BOOTBUILD_REQUIRE_ORACLES") and report.skipped):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
    report.outcome = "failed"
    report.longrepr = f"BOOTBUILD_REQUIRE_ORACLES is set, and this was not run: {reason}"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold each phase of each test to `_required`, after pytest's own skips and xfails are known."""
    report = yield
    _required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold whole modules to it too."""
    report = yield
    _required(report)
    return report


def _tool(name: str, package: str) -> Path:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not on PATH: apt-get install {package}")
    return Path(found)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that holds these tests: recipes, docs and pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def qemu() -> Path:
    """qemu-system-x86_64, always used with TCG: /dev/kvm may exist and not work."""
    return _tool("qemu-system-x86_64", "qemu-system-x86")


@pytest.fixture(scope="session")
def bash() -> Path:
    """bash, which a small system may lack."""
    return _tool("bash", "bash")


@pytest.fixture(scope="session")
def make_program() -> Path:
    """make, for folders whose kernel or stub has a Makefile of its own."""
    return _tool("make", "make")


@pytest.fixture(scope="session")
def gcc() -> Path:
    """A gcc that makes 32-bit and 64-bit freestanding code."""
    _tool("ld", "binutils")
    return _tool("gcc", "gcc")


@pytest.fixture(scope="session")
def grub_file() -> Path:
    """grub-file, which asks GRUB's header checks."""
    return _tool("grub-file", "grub-common")


def _there(path: Path, package: str) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not there: apt-get install {package}")
    return path


@pytest.fixture(scope="session")
def grub_pc() -> Grub:
    """GRUB as a PC's BIOS starts it."""
    parts = Path("/usr/lib/grub")
    _there(parts / "i386-pc/multiboot2.mod", "grub-pc-bin")
    return Grub(_tool("grub-mkimage", "grub-common"), parts)


@pytest.fixture(scope="session")
def grub_efi() -> Grub:
    """GRUB as 64-bit UEFI starts it, and OVMF, a UEFI for QEMU."""
    parts, ovmf = Path("/usr/lib/grub"), Path("/usr/share/OVMF")
    _there(parts / "x86_64-efi/multiboot2.mod", "grub-efi-amd64-bin")
    _there(ovmf / "OVMF_CODE_4M.fd", "ovmf")
    return Grub(_tool("grub-mkimage", "grub-common"), parts, ovmf)


@pytest.fixture(scope="session")
def ovmf() -> Ovmf:
    """OVMF, a UEFI for QEMU."""
    parts = Path("/usr/share/OVMF")
    _there(parts / "OVMF_CODE_4M.fd", "ovmf")
    return Ovmf(parts)


@pytest.fixture(scope="session")
def secure_ovmf(ovmf: Ovmf, tmp_path_factory: pytest.TempPathFactory) -> SecureOvmf:
    """OVMF with Secure Boot on, and what signs for it."""
    snakeoil = _there(ovmf.parts.with_name("ovmf") / "PkKek-1-snakeoil.key", "ovmf")
    key = tmp_path_factory.mktemp("key") / "key.pem"
    openssl = _tool("openssl", "openssl")
    subprocess.run([openssl, "pkey", "-in", snakeoil, "-passin", "pass:snakeoil", "-out", key], check=True)
    return SecureOvmf(ovmf.parts, _tool("sbsign", "sbsigntool"), key, snakeoil.with_suffix(".pem"))


@pytest.fixture(scope="session")
def bochs() -> Bochs:
    """A PC whose processor and BIOS are others than QEMU's. What it would show goes to a terminal."""
    _there(Path("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"), "bochs-term")
    bios = _there(Path("/usr/share/bochs/BIOS-bochs-latest"), "bochsbios")
    video = _there(Path("/usr/share/vgabios/vgabios.bin"), "vgabios")
    return Bochs(_tool("bochs-bin", "bochs"), bios, video)


@pytest.fixture(scope="session")
def shim() -> bytes:
    """shim, which UEFI starts, and which starts grubx64.efi."""
    return _there(Path("/usr/lib/shim/shimx64.efi"), "shim-unsigned").read_bytes()


@pytest.fixture(scope="session")
def systemd_boot() -> Path:
    """systemd-boot, which starts what a file of its disk names."""
    return _there(Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi"), "systemd-boot-efi")


@pytest.fixture(scope="session")
def systemd_stub() -> bytes:
    """The stub of unified kernel images."""
    return _there(Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"), "systemd-boot-efi").read_bytes()


@pytest.fixture(scope="session")
def lzop_program() -> Path:
    """The program whose file format Linux uses when it is compressed with LZO."""
    return _tool("lzop", "lzop")


@pytest.fixture(scope="session")
def linux_packs() -> Callable[[str], Command]:
    """`linux_packs(name)`: the command by which Linux packs itself, one of `tiny_bzimage.COMMANDS`."""

    def command(name: str) -> Command:
        found = COMMANDS[name]
        _tool(found.argv[0], found.package)
        return found

    return command


@pytest.fixture(scope="session")
def workshop(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A folder in which hello is built in every form that a kernel comes in."""
    return Workshop(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def mapping_kernel(workshop: Workshop, repository: Path) -> Path:
    """A 64-bit kernel for UEFI that calls SetVirtualAddressMap by the post stub, and says so."""
    source = repository / "tests/efi/virtual_map.c"
    options = ["-m64", "-fno-pie", "-no-pie", "-nostdlib", "-static", f"-I{include_directory()}"]
    linked = ["-Wl,-Ttext-segment=0x1000000,-estartup_64,--build-id=none,-znoexecstack", "-o", "mapping.elf"]
    workshop.run("gcc", *FLAGS, *options, source, *linked)
    return workshop.folder / "mapping.elf"


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """Debian's kernels and Xen, as `make kernels` unpacked them."""
    root = Path(os.environ.get("BOOTBUILD_KERNELS") or REPOSITORY / "build/kernels")
    try:
        return debian_kernels.read(root)
    except FileNotFoundError:
        pytest.skip(f"no kernels in {root}: make kernels")


@pytest.fixture(scope="session")
def toolstack_kernels(kernels: Kernels) -> Kernels:
    """The kernels, with a dom0 that has xl beside them."""
    if not (kernels.root / "dom0.cpio").exists():
        pytest.skip(f"no dom0.cpio in {kernels.root}: make xl")
    return kernels


@pytest.fixture(scope="session")
def initrd(kernels: Kernels) -> Path:
    """A cpio whose /init prints `bootbuild-initrd up sysname=… release=…` and powers off."""
    return kernels.initrd


@pytest.fixture(scope="session")
def first_linux(
    gcc: Path, qemu: Path, kernels: Kernels, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> FirstLinux:
    """A running Linux that starts another by kexec_file_load."""
    init = compiled(gcc, repository / "scripts", tmp_path_factory.mktemp("kexec"))
    return FirstLinux(qemu, kernels.cloud.vmlinuz, init)


@pytest.fixture(scope="session")
def run_until() -> Callable[..., Transcript]:
    """`oracle.run_until`, for tests that do not import it."""
    return oracle.run_until


def _shipped(name: str) -> Path:
    path = resources.files("bootbuild") / "guests/hello" / name
    assert isinstance(path, Path)
    return path


@pytest.fixture(scope="session")
def hello64() -> Path:
    """The 64-bit hello payload, from the installed package."""
    return _shipped("hello64.elf")


@pytest.fixture(scope="session")
def hello32() -> Path:
    """The 32-bit hello payload, from the installed package."""
    return _shipped("hello32.elf")


@pytest.fixture(scope="session")
def toolstack_parser(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """toolstack_parser.c, compiled."""
    program = tmp_path_factory.mktemp("toolstack") / "parser"
    source = Path(__file__).with_name("oracles") / "toolstack_parser.c"
    libraries = ("-lxenguest", "-lxenctrl", "-lxentoollog")
    options = ("-Wall", "-Wextra", "-Werror", "-O1", "-o")
    done = subprocess.run(
        [gcc, *options, program, source, *libraries], capture_output=True, text=True, check=False
    )
    if "xenctrl.h: No such file" in done.stderr:
        pytest.skip("libxenguest's headers are not there: apt-get install libxen-dev")
    assert done.returncode == 0, done.stderr
    return program
