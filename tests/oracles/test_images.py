"""What bootbuild makes and proves starts for real: hello under QEMU and Xen, Debian's kernels."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import monitors
import toolstack
from bootbuild.abi.boot_params import E820_MAX
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome, ProfileVerdict
from debian_kernels import Kernels, LinuxKernel
from oracle import run_until
from recipe_text import build_text

CMDLINE = "greeting=hello and=more"
SYSTEMS = {  # what each profile of target pvh runs under, as hello prints it
    "cloud-hypervisor": "kvm",
    "firecracker": "kvm",
    "qemu": "tcg",
    "qemu-microvm": "tcg",
    "xen-dom0": "xen",
    "xen-domu": "xen",
}
PROFILES = {f"pvh@{name}" for name in SYSTEMS}


@dataclass(frozen=True)
class Hello:
    """The images of both widths, with the file that is handed to them."""

    images: dict[int, Path]
    records: dict[int, BuildRecord]
    module: Path

    def lines(self) -> list[str]:
        """What the guest must print, wherever it runs."""
        crc = zlib.crc32(self.module.read_bytes())
        return [f"size {self.module.stat().st_size} crc32 {crc:#x}", "unknown operation: -38", "hello: done"]


@pytest.fixture(scope="module")
def hello(hello64: Path, hello32: Path, tmp_path_factory: pytest.TempPathFactory) -> Hello:
    folder = tmp_path_factory.mktemp("hello")
    module = folder / "module.bin"
    module.write_bytes(bytes(range(256)) * 33 + b"odd")
    images, records = {}, {}
    for width, payload in ((64, hello64), (32, hello32)):
        (folder / str(width)).mkdir()
        text = f"""
            api = 1
            [payload]
            path = {json.dumps(str(payload))}
            startup = "startup_{width}"
            width = {width}
            cmdline = "{CMDLINE}"
            [[payload.modules]]
            path = {json.dumps(str(module))}
            [targets.pvh]
            [expect]
            console = "hello: done"
        """
        records[width] = build_text(text, folder / str(width))
        images[width] = Path(records[width].images[0].path)
    return Hello(images, records, module)


@pytest.mark.parametrize("width", [64, 32])
def test_hello_boots_in_every_profile_of_the_emulator(hello: Hello, width: int) -> None:
    verdicts = hello.records[width].images[0].verdicts
    assert {verdict.name for verdict in verdicts} == PROFILES
    for verdict in verdicts:
        assert verdict.outcome is Outcome.BOOTED, verdict.findings
        assert verdict.reached == f"startup_{width}, console 'hello: done'"
        console = verdict.runs[0].console.decode()
        for line in [f"hello from pvh on {SYSTEMS[verdict.profile]}", f"cmdline {CMDLINE}", *hello.lines()]:
            assert line in console


def emulated(hello: Hello, width: int, profile: str) -> list[str]:
    """What the emulated run printed, record addresses and memory map included."""
    verdict = next(v for v in hello.records[width].images[0].verdicts if v.profile == profile)
    return verdict.runs[0].console.decode().replace("\r", "").strip().splitlines()


@pytest.mark.parametrize(("machine", "profile"), [("pc", "qemu"), ("microvm", "qemu-microvm")])
@pytest.mark.parametrize("width", [64, 32])
def test_hello_starts_in_qemu(qemu: Path, hello: Hello, width: int, machine: str, profile: str) -> None:
    command = monitors.qemu_kernel(
        qemu, hello.images[width], machine=machine, cmdline=CMDLINE, initrd=hello.module
    )
    transcript = run_until(command, ["^hello: done"], fail=["FAILED"])
    assert transcript.reached, str(transcript)
    # word for word
    assert "\n".join(emulated(hello, width, profile)) in transcript.text.replace("\r", "")


@pytest.mark.parametrize("width", [64, 32])
def test_hello_starts_as_pvh_dom0_under_xen(qemu: Path, kernels: Kernels, hello: Hello, width: int) -> None:
    """start_info is version 0 there, without a memory map: the stub asks Xen for it."""
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        hello.images[width],
        pvh=True,
        cmdline=CMDLINE,
        modules=[hello.module],
        memory=512,
        dom0_memory=128,
    )
    transcript = run_until(command, ["^hello: done"], fail=["FAILED", *monitors.XEN_FAILS])
    assert transcript.reached, str(transcript)
    # Xen prints lines of its own between dom0's; QEMU makes the file's name the module's command line
    text = transcript.text.replace(str(hello.module), "")
    expected = emulated(hello, width, "xen-dom0")
    assert [line for line in text.splitlines() if line in expected] == expected


def test_hello_starts_as_pvh_domains_of_xl(
    qemu: Path, toolstack_kernels: Kernels, hello: Hello, tmp_path: Path
) -> None:
    domains = {
        f"hello{width}": toolstack.Domain(image, "pvh", CMDLINE, hello.module)
        for width, image in hello.images.items()
    }
    transcript, runs = toolstack.create(qemu, toolstack_kernels, domains, tmp_path)
    assert transcript.reached, str(transcript)
    for width in hello.images:
        run = runs[f"hello{width}"]
        assert run.state == "poweroff", run
        printed = [line.strip() for line in run.console if line.strip()]
        assert printed == emulated(hello, width, "xen-domu")


def prove_linux(
    kernel: LinuxKernel, initrd: Path, startup: str, folder: Path, symbols: Path | None
) -> tuple[ProfileVerdict, ...]:
    """Debian's kernel as it is: its own PVH entry, proved up to `startup`."""
    named = f"symbols = {json.dumps(str(symbols))}" if symbols else ""
    text = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel.vmlinuz))}
        guest = "linux"
        startup = "{startup}"
        {named}
        cmdline = "console=ttyS0 panic=-1"
        [[payload.modules]]
        path = {json.dumps(str(initrd))}
        [targets.pvh]
        entry = "native"
    """
    record = build_text(text, folder)
    assert record.payload_format.startswith("bzimage")
    assert Path(record.images[0].path).read_bytes() == kernel.vmlinux.read_bytes()
    return record.images[0].verdicts


@pytest.mark.slow
@pytest.mark.parametrize("startup", ["x86_64_start_kernel", "start_kernel"])
@pytest.mark.parametrize("flavour", ["cloud", "generic"])
def test_debians_kernel_reaches_its_startup_path(
    kernels: Kernels, initrd: Path, flavour: str, startup: str, tmp_path: Path
) -> None:
    kernel = getattr(kernels, flavour)
    # The cloud kernel's symbols are its own kallsyms, the generic one's are given.
    symbols = kernel.system_map if flavour == "generic" else None
    verdicts = prove_linux(kernel, initrd, startup, tmp_path, symbols)
    assert {verdict.name for verdict in verdicts} == PROFILES
    for verdict in verdicts:
        assert verdict.outcome is Outcome.BOOTED, verdict.findings
        assert verdict.reached == startup
        assert verdict.handover is not None
        assert verdict.handover["cmdline"] == "console=ttyS0 panic=-1"
        assert verdict.handover["ramdisk"]["size"] == initrd.stat().st_size
        assert 2 <= len(verdict.handover["e820"]) <= E820_MAX
        loader = "0x90" if SYSTEMS[verdict.profile] == "xen" else "0xb0"
        assert verdict.handover["type_of_loader"] == loader


def test_debians_kernel_reaches_user_space_in_qemu(qemu: Path, kernels: Kernels, initrd: Path) -> None:
    command = monitors.qemu_kernel(
        qemu, kernels.cloud.vmlinux, memory=512, cmdline="console=ttyS0 panic=-1", initrd=initrd
    )
    transcript = run_until(command, ["bootbuild-initrd up"], fail=["Kernel panic"], timeout=120)
    assert transcript.reached, str(transcript)
    assert kernels.cloud.release in transcript.text
