"""Debian's kernels without an entry of their own: with ours they boot in the emulator, QEMU and Xen."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import monitors
import toolstack
from bootbuild.abi import boot_params
from bootbuild.abi.handover import BootType, Handover, HypervisorType
from bootbuild.boot.prove import prove
from bootbuild.boot.subject import request_subject
from bootbuild.errors import RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.content import FileContent
from bootbuild.model.machine import MapEntry
from bootbuild.model.record import BuildRecord
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import BUDGET, TIMEOUT, boot, build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from debian_kernels import Kernels, LinuxKernel
from oracle import run_until
from own_start_info import OwnStartInfo
from recipe_text import build_text

CMDLINE = "console=ttyS0 panic=-1"
FLAVOURS = ("cloud", "generic")
UP = r"bootbuild-initrd up sysname=Linux"


@dataclass(frozen=True)
class Bare:
    """A kernel whose Xen notes were taken away, and what became of it."""

    kernel: LinuxKernel
    vmlinux: Path  #: no loader of PVH takes it
    record: BuildRecord

    @property
    def image(self) -> Path:
        return Path(self.record.images[0].path)


def without_xen_notes(kernel: Path, copy: Path) -> Path:
    """A copy in which type, owner and contents of each Xen note are zero, as without CONFIG_PVH and XEN."""
    shutil.copyfile(kernel, copy)
    with copy.open("r+b") as file:
        for note in read_elf(FileContent(kernel), kernel.name).notes:
            if note.owner == "Xen":
                file.seek(note.offset + 8)  # behind namesz and descsz, which stay
                file.write(bytes(4 + 4 + len(note.desc)))
    return copy


def recipe(kernel: LinuxKernel, vmlinux: Path, initrd: Path, entry: str) -> str:
    return f"""
        api = 1
        [payload]
        path = {json.dumps(str(vmlinux))}
        guest = "linux"
        startup = "startup_64"
        symbols = {json.dumps(str(kernel.system_map))}
        cmdline = "{CMDLINE}"
        [[payload.modules]]
        path = {json.dumps(str(initrd))}
        [targets.pvh]
        entry = "{entry}"
    """


@pytest.fixture(scope="module")
def own_initrd(gcc: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The initrd of scripts/initrd as it is now: `make kernels` may have left an older one."""
    sys.path.append(str(repository / "scripts"))
    import kernels

    return kernels.initrd(tmp_path_factory.mktemp("initrd"))


@pytest.fixture(scope="module")
def bare(kernels: Kernels, own_initrd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bare]:
    """Both kernels, built with an entry of ours and booted in every PVH profile that is installed."""
    made = {}
    for flavour in FLAVOURS:
        folder = tmp_path_factory.mktemp(flavour)
        kernel: LinuxKernel = getattr(kernels, flavour)
        vmlinux = without_xen_notes(kernel.vmlinux, folder / "vmlinux")
        made[flavour] = Bare(
            kernel, vmlinux, build_text(recipe(kernel, vmlinux, own_initrd, "insert"), folder)
        )
    return made


def test_without_its_notes_no_pvh_loader_takes_the_kernel(
    qemu: Path, bare: dict[str, Bare], own_initrd: Path, tmp_path: Path
) -> None:
    kernel = bare["cloud"]
    with pytest.raises(RefusedError) as caught:
        build_text(recipe(kernel.kernel, kernel.vmlinux, own_initrd, "native"), tmp_path)
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-L001"]
    transcript = run_until(monitors.qemu_kernel(qemu, kernel.vmlinux), timeout=20)
    assert "Error loading uncompressed kernel without PVH ELF Note" in transcript.text


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_it_boots_in_every_profile(bare: dict[str, Bare], own_initrd: Path, flavour: str) -> None:
    verdicts = bare[flavour].record.images[0].verdicts
    assert {verdict.name for verdict in verdicts} == set(Host.discover().profiles_of("pvh"))
    for verdict in verdicts:
        assert (verdict.outcome, verdict.reached) == (Outcome.BOOTED, "startup_64"), verdict.findings
        assert verdict.handover is not None
        assert verdict.handover["cmdline"] == CMDLINE
        assert verdict.handover["ramdisk"]["size"] == own_initrd.stat().st_size
        assert verdict.handover["record"]["boot_type"] == "pvh"
        assert verdict.handover["record"]["hypervisor_type"] != "unknown"


@pytest.mark.slow
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_it_goes_on_to_start_kernel(bare: dict[str, Bare], own_initrd: Path, flavour: str) -> None:
    """The same image, booted as anybody's; what is judged is what the kernel has copied."""
    request = BootRequest(
        bare[flavour].image,
        ("pvh",),
        until="start_kernel",
        symbols=bare[flavour].kernel.system_map,
        cmdline=CMDLINE.encode(),
        modules=((own_initrd, b""),),
    )
    verdicts = boot(request, Host.discover())
    assert {verdict.name for verdict in verdicts} == set(Host.discover().profiles_of("pvh"))
    for verdict in verdicts:
        assert (verdict.outcome, verdict.reached) == (Outcome.BOOTED, "start_kernel"), verdict.findings
        assert verdict.handover is not None
        assert verdict.handover["record"]["boot_type"] == "pvh"
        assert verdict.handover["type_of_loader"] == "0xff"


def test_linux_takes_a_map_that_is_longer_than_the_zero_page(bare: dict[str, Bare]) -> None:
    """The kernel itself says what it read: of 300 reserved ranges the last is far into SETUP_E820_EXT."""
    reserved = [MapEntry(0x30000000 + index * 0x2000, 0x1000, 2) for index in range(300)]
    ram = [MapEntry(0, 0x9F000, 1), MapEntry(1 << 20, 0x1FE00000, 1)]
    request = BootRequest(bare["cloud"].image, ("pvh@qemu",), cmdline=b"earlyprintk=ttyS0")
    subject = request_subject(request, Host.discover(), BUDGET, TIMEOUT)
    last = f"[mem {reserved[-1].address:#018x}-{reserved[-1].address + 0xFFF:#018x}] reserved"
    subject = replace(subject, expect=f"reserve setup_data: {last}".encode())
    verdict = prove(subject, OwnStartInfo(memory_map=(*ram, *reserved)))
    assert verdict.outcome is Outcome.BOOTED, verdict.findings


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_shipped_recipe_takes_what_a_distribution_installs(
    kernels: Kernels, own_initrd: Path, repository: Path, flavour: str, tmp_path: Path
) -> None:
    """A bzImage, without symbols, its own PVH entry replaced."""
    kernel: LinuxKernel = getattr(kernels, flavour)
    overrides = Overrides(payload=str(kernel.vmlinuz), modules=(str(own_initrd),), output=str(tmp_path))
    host = Host.discover()
    record = build(read(repository / "recipes" / "linux-pvh.toml", host, overrides), host)
    assert record.payload_format.startswith("bzimage")
    for verdict in record.images[0].verdicts:
        assert (verdict.outcome, verdict.reached) == (Outcome.BOOTED, "startup_64, start_kernel"), (
            verdict.findings
        )
        assert verdict.handover is not None
        assert verdict.handover["ramdisk"]["size"] == own_initrd.stat().st_size
        assert verdict.handover["record"]["boot_type"] == "pvh"


def pair(text: str) -> tuple[int, int]:
    """Boot and hypervisor type, as user space reads them in /sys/kernel/boot_params."""
    found = re.findall(r"bootbuild-initrd setup_data type=(\w+) data=(\w+)", text)
    (record,) = [bytes.fromhex(data) for kind, data in found if int(kind, 0) == boot_params.SETUP_BOOTBUILD]
    parsed = Handover.parse(lambda at, size: record[at : at + size], 0)
    return parsed.boot_type, parsed.hypervisor_type


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_it_reaches_user_space_in_qemu(
    qemu: Path, bare: dict[str, Bare], own_initrd: Path, flavour: str
) -> None:
    command = monitors.qemu_kernel(qemu, bare[flavour].image, memory=512, cmdline=CMDLINE, initrd=own_initrd)
    transcript = run_until(command, [UP], fail=["Kernel panic"], timeout=120)
    assert transcript.reached, str(transcript)
    assert bare[flavour].kernel.release in transcript.text
    assert f"bootbuild-initrd cmdline={CMDLINE}" in transcript.text
    assert pair(transcript.text) == (BootType.PVH, HypervisorType.TCG)


@pytest.mark.slow
def test_it_reaches_user_space_as_pvh_dom0_under_xen(
    qemu: Path, kernels: Kernels, bare: dict[str, Bare], own_initrd: Path
) -> None:
    """No boot_params says that it is dom0, so Linux has no hvc0 there: it speaks through its log."""
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        bare["generic"].image,
        pvh=True,
        cmdline="console=hvc0 earlyprintk=xen panic=-1",
        modules=[own_initrd],
        memory=1024,
        dom0_memory=512,
    )
    transcript = run_until(command, [UP], fail=["Kernel panic", *monitors.XEN_FAILS], timeout=180)
    assert transcript.reached, str(transcript)
    assert pair(transcript.text) == (BootType.PVH, HypervisorType.XEN)


@pytest.mark.slow
def test_it_reaches_user_space_as_a_pvh_domain_of_xl(
    qemu: Path, toolstack_kernels: Kernels, bare: dict[str, Bare], own_initrd: Path, tmp_path: Path
) -> None:
    domain = toolstack.Domain(
        bare["generic"].image, "pvh", "console=hvc0 panic=-1", own_initrd, memory=512, seconds=60
    )
    transcript, runs = toolstack.create(qemu, toolstack_kernels, {"linux": domain}, tmp_path)
    assert transcript.reached, str(transcript)
    run = runs["linux"]
    assert run.state == "poweroff", run
    text = "\n".join(run.console)
    assert re.search(UP, text), run
    assert "bootbuild-initrd hypervisor=xen" in text
    assert "bootbuild-initrd guest=PVH" in text
    assert pair(text) == (BootType.PVH, HypervisorType.XEN)
