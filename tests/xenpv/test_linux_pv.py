"""Debian's kernel as a Xen PV domain, by its own entry and behind our stub, here and as real Xen's dom0."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

import monitors
import toolstack
from bootbuild.api import ElfImage, FileContent, Filling, Offer
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.machine import Machine
from bootbuild.model.record import BuildRecord
from bootbuild.model.request import BootRequest
from bootbuild.model.trace import StopKind
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import boot, build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from bootbuild_xenpv.environments.frames import PAGE
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from debian_kernels import Kernels
from oracle import run_until

CMDLINE = "console=hvc0 earlyprintk=xen panic=-1"
UP = r"Freeing unused kernel image \(initmem\)"  #: the end of its start; the cloud kernel has no hvc0 as dom0


ENTRIES = ("native", "chain")
SYSTEM = "linux-ours"  #: GUEST_OS, in the place of the kernel's own


def built(kernels: Kernels, entry: str, repository: Path, folder: Path) -> BuildRecord:
    """What the shipped recipe makes of Debian's kernel, with one note changed."""
    overrides = Overrides(
        payload=str(kernels.cloud.vmlinux),
        modules=(str(kernels.initrd),),
        cmdline=CMDLINE,
        output=str(folder),
        settings=(f"targets.xen-pv.entry={entry}", f"targets.xen-pv.guest_os={SYSTEM}"),
    )
    host = Host.discover()
    return build(read(repository / "recipes" / "linux-xen-pv.toml", host, overrides), host)


@pytest.fixture(scope="module")
def records(
    kernels: Kernels, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, BuildRecord]:
    return {entry: built(kernels, entry, repository, tmp_path_factory.mktemp(entry)) for entry in ENTRIES}


@pytest.fixture(params=ENTRIES)
def record(request: pytest.FixtureRequest, records: Mapping[str, BuildRecord]) -> BuildRecord:
    return records[request.param]


def test_it_comes_to_its_first_console_line(record: BuildRecord) -> None:
    verdicts = {verdict.profile: verdict for verdict in record.images[0].verdicts}
    assert set(verdicts) == {"dom0", "domu"}
    for verdict in verdicts.values():
        assert verdict.outcome is Outcome.BOOTED, verdict.findings
        assert verdict.reached == "start_kernel, console 'Linux version'"
        assert verdict.handover is not None and verdict.handover["cmdline"] == CMDLINE
        assert len({run.digest for run in verdict.runs}) == 1, (
            "wherever its frames are, it takes the same way"
        )
    assert b"mapping kernel into physical memory" in verdicts["dom0"].runs[0].console


def test_what_xen_emulates_for_it_is_told(record: BuildRecord) -> None:
    events = [e for e in record.images[0].verdicts[0].runs[0].events if e.kind == "privileged"]
    assert [e.detail for e in events[:3]] == [
        "WRMSR in ring 3 is emulated by Xen",  # startup_xen sets GS base
        "MOV from CR in ring 3 is emulated by Xen",
        "RDMSR in ring 3 is emulated by Xen",
    ]


def test_its_own_symbols_say_where_it_joins_the_other_entries(kernels: Kernels) -> None:
    """Debian's kernel has its table of symbols in it: nobody needs to name the startup path."""
    request = BootRequest(kernels.cloud.vmlinux, ("xen-pv@domu",), cmdline=CMDLINE.encode())
    (verdict,) = boot(request, Host.discover())
    assert (verdict.outcome, verdict.reached) == (Outcome.BOOTED, "x86_64_start_reservations")


def test_a_kernel_made_for_dom0_takes_the_hosts_map_for_its_own(kernels: Kernels) -> None:
    """CONFIG_XEN_DOM0: it asks for XENMEM_machine_memory_map, and maps what is no RAM as it is."""
    image = read_elf(FileContent(kernels.generic.vmlinux), "vmlinux")
    scene = XenDom0().scene(image, Offer(CMDLINE.encode()), Filling.POISON_A)
    with Machine(scene) as machine:
        stop = machine.run(checkpoints={}, budget=200_000_000, seconds=120, console=b"Zone ranges:")
    assert stop.kind is StopKind.CONSOLE, stop
    assert b"Xen: [mem 0x000000000009fc00-0x00000000000fffff] reserved" in scene.platform.console


def give_it_a_frame_table_of_one_gib(machine: Machine, image: ElfImage) -> None:
    """As if CONFIG_XEN_MEMORY_HOTPLUG_LIMIT were 1, not 512: it looks at each entry that there could be."""
    start = image.symbols["xen_vmalloc_p2m_tree"]
    at = machine.read(start, 64).index(struct.pack("<I", (512 << 30) // PAGE))
    machine.write(start + at, struct.pack("<I", (1 << 30) // PAGE))


@pytest.mark.slow
def test_it_comes_to_its_grant_table(kernels: Kernels) -> None:
    """As a domU, with events, timers and a scheduler of its own. Soon after that it waits for xenstored."""
    image = read_elf(FileContent(kernels.cloud.vmlinux), "vmlinux")
    scene = XenDomU().scene(image, Offer(CMDLINE.encode(), memory=128 << 20), Filling.EXACT)
    with Machine(scene) as machine:
        give_it_a_frame_table_of_one_gib(machine, image)
        text = b"Grant table initialized"
        stop = machine.run(checkpoints={}, budget=250_000_000, seconds=300, console=text)
    assert stop.kind is StopKind.CONSOLE, stop
    for line in (b"console [hvc0] enabled", b"installing Xen timer for CPU 0"):
        assert line in scene.platform.console


@pytest.mark.slow
def test_real_xen_starts_it_as_dom0(qemu: Path, kernels: Kernels, record: BuildRecord) -> None:
    command = monitors.xen_dom0(
        qemu,
        kernels.xen,
        Path(record.images[0].path),
        pvh=False,
        cmdline=CMDLINE,
        modules=[kernels.initrd],
        memory=1024,
        dom0_memory=512,
    )
    done = run_until(command, ["Linux version", UP], fail=[*monitors.XEN_FAILS, "Dom0 crashed"], timeout=180)
    assert done.reached, str(done)


MEMORY = 256  #: MiB
DETECTED = "Hypervisor detected: Xen PV"


@pytest.fixture(scope="module")
def domains(
    qemu: Path,
    toolstack_kernels: Kernels,
    records: Mapping[str, BuildRecord],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, toolstack.DomainRun]:
    """Both as domU; the one behind our stub is waited for until Linux knows that it is one."""
    asked = {
        entry: toolstack.Domain(
            Path(records[entry].images[0].path), "pv", CMDLINE, toolstack_kernels.initrd, MEMORY, 60, until
        )
        for entry, until in {"native": "", "chain": DETECTED}.items()
    }
    folder = tmp_path_factory.mktemp("xl")
    transcript, runs = toolstack.create(qemu, toolstack_kernels, asked, folder)
    assert transcript.reached, str(transcript)
    return runs


@pytest.fixture(scope="module")
def first_lines(kernels: Kernels, records: Mapping[str, BuildRecord]) -> list[str]:
    """Of the emulator's domU, up to what comes before DETECTED."""
    request = BootRequest(
        Path(records["native"].images[0].path),
        ("xen-pv@domu",),
        until=f"console:{DETECTED}",
        cmdline=CMDLINE.encode(),
        modules=((kernels.initrd, b""),),
        memory=MEMORY << 20,
    )
    (verdict,) = boot(request, Host.discover())
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    return verdict.runs[0].console.decode().replace("\r", "").splitlines()[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_under_xl_its_first_lines_are_those_of_the_emulator(
    domains: Mapping[str, toolstack.DomainRun], first_lines: list[str], entry: str
) -> None:
    """Word for word, the map of its memory included."""
    real = domains[entry]
    assert any(f'GUEST_OS = "{SYSTEM}"' in line for line in real.log)
    start = next(i for i, line in enumerate(real.console) if "Linux version" in line)
    assert len(first_lines) > 10
    assert list(real.console[start : start + len(first_lines)]) == first_lines
    assert DETECTED in real.console[start + len(first_lines)]


@pytest.mark.slow
def test_under_xl_it_comes_to_its_init(domains: Mapping[str, toolstack.DomainRun]) -> None:
    assert domains["native"].state == "poweroff"
    assert "bootbuild-initrd guest=PV" in domains["native"].console
