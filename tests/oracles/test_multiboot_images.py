"""What targets multiboot1 and multiboot2 make starts for real, by GRUB and QEMU: hello, Debian's kernel."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import grub
import monitors
from bootbuild.abi import boot_params
from bootbuild.abi.handover import BootType, Handover
from bootbuild.errors import RefusedError
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from debian_kernels import Kernels
from grub import Grub, Menu
from oracle import Transcript, run_until

CMDLINE = "greeting=hello and=more"
MODULE = bytes(range(256)) * 33 + b"odd"
TARGETS = {"multiboot1": "multiboot", "multiboot2": "multiboot2"}  #: GRUB's command for each


def built(text: str, folder: Path) -> BuildRecord:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text)
    host = Host.discover()
    return build(read(path, host, Overrides()), host)


@dataclass(frozen=True)
class Hello:
    """An image of each target and width, in files of their own, and the module that is handed to them."""

    records: dict[int, BuildRecord]
    module: Path

    def image(self, target: str, width: int) -> Path:
        return next(Path(i.path) for i in self.records[width].images if i.targets == (target,))


@pytest.fixture(scope="module")
def hello(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Hello:
    folder = tmp_path_factory.mktemp("hello")
    module = folder / "module.bin"
    module.write_bytes(MODULE)
    records = {}
    for width, payload in ((64, hello64), (32, hello32)):
        text = f"""
            api = 1
            [payload]
            path = {json.dumps(str(payload))}
            startup = "startup_{width}"
            width = {width}
            cmdline = "{CMDLINE}"
            [[payload.modules]]
            path = {json.dumps(str(module))}
            [targets.multiboot1]
            [targets.multiboot2]
            [expect]
            console = "hello: done"
        """
        records[width] = built(text, folder / str(width))
    return Hello(records, module)


@pytest.mark.parametrize("width", [64, 32])
def test_hello_boots_in_every_profile_of_the_emulator(hello: Hello, width: int) -> None:
    images = hello.records[width].images
    host = Host.discover()
    assert {v.name for i in images for v in i.verdicts} == {*host.select(tuple(TARGETS))}
    for verdict in (v for i in images for v in i.verdicts):
        assert verdict.outcome is Outcome.BOOTED, verdict.findings
        assert verdict.reached == f"startup_{width}, console 'hello: done'"


def said(transcript: Transcript, target: str, cmdline: str, *, alive: bool = False) -> None:
    """What hello prints of the pair, the command line and the module; `alive`: boot services are."""
    assert transcript.reached, str(transcript)
    lines = transcript.text.replace("\r", "").splitlines()
    assert f"hello from {target} on tcg" in lines
    assert f"cmdline {cmdline}" in lines
    (module,) = (line for line in lines if line.startswith("module 0 "))
    assert f"size {len(MODULE)} crc32 {zlib.crc32(MODULE):#x}" in module
    assert f"flags {int(alive):#x}" in lines
    memory = re.search(r"\nmemory 0x100000 0x[0-9a-f]+ ram\n", "\n".join(lines))
    assert bool(memory) is not alive  # which are asked for it
    assert "unknown operation: -38" in lines


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("width", [64, 32])
def test_grub_starts_hello_on_a_bios(
    qemu: Path, grub_pc: Grub, hello: Hello, target: str, width: int, tmp_path: Path
) -> None:
    command = TARGETS[target]
    menu = Menu(command, hello.image(target, width), CMDLINE, [(hello.module, "its own")])  # type: ignore[arg-type]
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    said(transcript, target, CMDLINE)
    assert re.search(r"module 0 .* cmdline its own", transcript.text)
    assert re.search(r"^rsdp 0x[0-9a-f]+", transcript.text, re.MULTILINE)


@pytest.fixture(scope="module")
def beside_boot_services(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """hello with both entries of Multiboot2."""
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        [targets.multiboot2]
        boot_services = true
        [expect]
        console = "hello: done"
    """
    (image,) = built(text, tmp_path_factory.mktemp("alive")).images
    assert [verdict.outcome for verdict in image.verdicts] == [Outcome.BOOTED] * 2
    return Path(image.path)


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_grub_starts_hello_beside_boot_services_or_without_them(
    qemu: Path,
    grub_pc: Grub,
    grub_efi: Grub,
    hello: Hello,
    beside_boot_services: Path,
    firmware: str,
    tmp_path: Path,
) -> None:
    """One image: where GRUB has no boot services to keep alive, it takes the 32-bit entry."""
    menu = Menu("multiboot2", beside_boot_services, CMDLINE, [(hello.module, "")])
    alive = firmware == "uefi"
    command = grub_efi.efi(qemu, menu, tmp_path) if alive else grub_pc.bios(qemu, menu, tmp_path)
    transcript = run_until(command, ["^hello: done"], fail=grub.FAILS, timeout=60)
    said(transcript, "multiboot2", CMDLINE, alive=alive)


@pytest.mark.parametrize("width", [64, 32])
def test_grub_starts_hello_on_uefi(
    qemu: Path, grub_efi: Grub, hello: Hello, width: int, tmp_path: Path
) -> None:
    menu = Menu("multiboot2", hello.image("multiboot2", width), CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_efi.efi(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS, timeout=60)
    said(transcript, "multiboot2", CMDLINE)


@pytest.mark.parametrize("width", [64, 32])
def test_qemu_starts_hello(qemu: Path, hello: Hello, width: int) -> None:
    """Of a 64-bit kernel as well: the file is ELF32. QEMU puts the file's name before the command line."""
    image = hello.image("multiboot1", width)
    command = monitors.qemu_kernel(qemu, image, cmdline=CMDLINE, initrd=hello.module)
    said(run_until(command, ["^hello: done"]), "multiboot1", f"{image} {CMDLINE}")


def test_qemu_takes_no_elf64_by_multiboot(qemu: Path, hello64: Path, tmp_path: Path) -> None:
    """What `elf_class = 64` is refused with, and why 32 is what it is without."""
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        [targets.multiboot1]
        elf_class = 64
        profiles = ["grub"]
    """
    record = built(text, tmp_path)
    assert [v.outcome for v in record.images[0].verdicts] == [Outcome.BOOTED]
    transcript = run_until(monitors.qemu_kernel(qemu, Path(record.images[0].path)), ["^hello"], timeout=20)
    assert "Cannot load x86-64 image, give a 32bit one." in transcript.text


def test_grub_starts_a_file_that_was_laid_out_anew(
    qemu: Path, grub_pc: Grub, hello64: Path, hello: Hello, tmp_path: Path
) -> None:
    """One byte behind the program headers is in the way of the header."""
    raw = bytearray(hello64.read_bytes())
    raw[64 + 2 * 56] = 1
    (tmp_path / "full.elf").write_bytes(raw)
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(tmp_path / "full.elf"))}
        startup = "startup_64"
        [targets.multiboot2]
    """
    (record,) = built(text, tmp_path).images
    image = Path(record.path)
    assert image.read_bytes()[60:62] == b"\1\0"  # e_shnum: of the kernel's sections none is left
    assert all(verdict.outcome is Outcome.BOOTED for verdict in record.verdicts), record.verdicts
    menu = Menu("multiboot2", image, CMDLINE, [(hello.module, "")])
    transcript = run_until(grub_pc.bios(qemu, menu, tmp_path), ["^hello: done"], fail=grub.FAILS)
    said(transcript, "multiboot2", CMDLINE)


def linux(kernel: Path, initrd: Path, combine: Sequence[str]) -> str:
    return f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel))}
        guest = "linux"
        startup = "startup_64"
        cmdline = "console=ttyS0 panic=-1"
        [[payload.modules]]
        path = {json.dumps(str(initrd))}
        [targets.multiboot2]
        [targets.pvh]
        entry = "native"
        startup = "x86_64_start_kernel"
        profiles = ["qemu"]
        [targets.xen-pv]
        entry = "native"
        startup = "x86_64_start_reservations"
        profiles = ["domu"]
        [output]
        combine = {json.dumps(list(combine))}
    """


@pytest.fixture(scope="module")
def debian(kernels: Kernels, initrd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's kernel with a Multiboot2 entry of ours beside its own PVH and PV entries, in one file."""
    folder = tmp_path_factory.mktemp("debian")
    record = built(linux(kernels.cloud.vmlinux, initrd, ["multiboot2", "pvh", "xen-pv"]), folder)
    (image,) = record.images
    assert set(image.targets) == {"multiboot2", "pvh", "xen-pv"}
    for verdict in image.verdicts:
        assert verdict.outcome is Outcome.BOOTED, verdict.findings
    return Path(image.path)


def up(transcript: Transcript, boot_type: BootType) -> None:
    """User space is reached, and finds in /sys how the kernel was entered."""
    assert transcript.reached, str(transcript)
    found = re.findall(r"bootbuild-initrd setup_data type=(\w+) data=(\w+)", transcript.text)
    (record,) = [bytes.fromhex(data) for kind, data in found if int(kind, 0) == boot_params.SETUP_BOOTBUILD]
    assert Handover.parse(lambda at, size: record[at : at + size], 0).boot_type == boot_type


UP = "bootbuild-initrd up sysname=Linux"


@pytest.mark.slow
@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_debians_kernel_reaches_user_space_by_multiboot2(
    qemu: Path,
    grub_pc: Grub,
    grub_efi: Grub,
    initrd: Path,
    debian: Path,
    firmware: str,
    tmp_path: Path,
) -> None:
    menu = Menu("multiboot2", debian, "console=ttyS0 panic=-1", [(initrd, "")])
    start = grub_pc.bios if firmware == "bios" else grub_efi.efi
    command = start(qemu, menu, tmp_path, memory=1024)
    transcript = run_until(command, [UP], fail=["Kernel panic", *grub.FAILS], timeout=120)
    up(transcript, BootType.MULTIBOOT2)


@pytest.mark.slow
def test_the_same_image_reaches_user_space_by_its_own_pvh_entry(
    qemu: Path, initrd: Path, debian: Path
) -> None:
    command = monitors.qemu_kernel(qemu, debian, memory=512, cmdline="console=ttyS0 panic=-1", initrd=initrd)
    transcript = run_until(command, [UP], fail=["Kernel panic"], timeout=120)
    assert transcript.reached, str(transcript)


@pytest.mark.slow
def test_the_same_image_reaches_user_space_as_pv_dom0(
    qemu: Path, kernels: Kernels, initrd: Path, debian: Path
) -> None:
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        debian,
        pvh=False,
        cmdline="console=hvc0 earlyprintk=xen panic=-1",
        modules=[initrd],
        memory=1024,
        dom0_memory=512,
    )
    # without CONFIG_XEN_DOM0 it has no hvc0, on which its init would speak
    init = "Run /init as init process"
    transcript = run_until(command, [init], fail=["Kernel panic", *monitors.XEN_FAILS], timeout=180)
    assert transcript.reached, str(transcript)


def test_qemus_pvh_is_refused_beside_multiboot1(hello64: Path, tmp_path: Path) -> None:
    def text(profiles: str) -> str:
        return f"""
            api = 1
            [payload]
            path = {json.dumps(str(hello64))}
            startup = "startup_64"
            [targets.multiboot1]
            [targets.pvh]
            {profiles}
            [output]
            combine = ["pvh", "multiboot1"]
        """

    with pytest.raises(RefusedError) as caught:
        built(text(""), tmp_path)
    found = [(problem.rule.id, problem.message) for problem in caught.value.problems]
    assert found == [
        ("BB-L311", f"pvh@{name}: QEMU would start it by its Multiboot 1 header")
        for name in ("qemu", "qemu-microvm")
    ]
    (image,) = built(text('profiles = ["xen-domu"]'), tmp_path).images
    assert {v.name: v.outcome for v in image.verdicts}["pvh@xen-domu"] is Outcome.BOOTED
