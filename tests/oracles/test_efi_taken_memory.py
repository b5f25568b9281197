"""A kernel linked where OVMF keeps memory for good is moved; or it is refused, and the firmware goes on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import efi_dump
import ovmf as firmware
from bootbuild.model.record import BuildRecord
from debian_kernels import Kernels
from oracle import run_until
from ovmf import Ovmf
from recipe_text import build_text
from workshop import Workshop

NVS = 0x806000  #: two pages of ACPI NVS, which OVMF has there
EARLY = 0x1000000  #: boot services', until they end; Linux is linked there
TAKER = Path(__file__).parents[1] / "efi/taker.c"
FREE = 0x2200000  #: the lowest place for Linux, where a page at 32 MiB is taken as well
BRK = re.compile(r"memblock_reserve: \[0x0*([0-9a-f]+)-\w+\] setup_arch")  #: reserve_brk of Linux
TAKEN = "bootbuild: cannot start the kernel: the memory that it is linked for is taken for good"


@dataclass(frozen=True)
class Makes:
    """hello as a static PIE in an application."""

    workshop: Workshop
    folder: Path

    def __call__(
        self, name: str, target: str, *, width: int = 64, load: int = NVS, outcome: str = "BOOTED"
    ) -> BuildRecord:
        folder = self.folder / name
        folder.mkdir()
        record = build_text(
            f"""
            api = 1
            [payload]
            path = {json.dumps(str(self.workshop.pie(f"efi-taken{width}", width)))}
            startup = "startup_{width}"
            width = {width}
            load = {load:#x}
            [targets.efi]
            {target}
            profiles = ["ovmf"]
            [expect]
            console = "hello: done"
            """,
            folder,
        )
        assert [v.outcome.name for image in record.images for v in image.verdicts] == [outcome]
        return record


@pytest.fixture
def makes(workshop: Workshop, tmp_path: Path) -> Makes:
    return Makes(workshop, tmp_path)


def image(record: BuildRecord) -> Path:
    return Path(record.images[0].path)


#: what is said of the target, the code's width, and where it is linked
MOVED: dict[str, tuple[str, int, int]] = {
    "low": ('relocatable = "low"', 64, NVS),
    "high": ('relocatable = "high"', 64, NVS),
    "32-bit code": ('relocatable = "any"', 32, NVS),
    "beside boot services": ('relocatable = "low"\nboot_services = true', 64, EARLY),
}


@pytest.mark.parametrize("name", MOVED)
def test_hello_lies_where_the_emulated_firmware_has_it(
    makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path, name: str
) -> None:
    target, width, load = MOVED[name]
    record = makes("moved", target, width=width, load=load)
    handover = record.images[0].verdicts[0].handover
    assert handover is not None
    assert int(handover["stub"]["base"], 16) not in range(load, load + 0x400000)
    command = ovmf.by_kernel(qemu, image(record), tmp_path)
    transcript = run_until(command, ["hello: done"], fail=firmware.FAILS, timeout=90)
    assert transcript.reached, transcript
    assert f"\nstub {handover['stub']['base']}\n" in transcript.text


def test_what_may_not_be_moved_is_refused_and_the_next_boot_option_starts(
    makes: Makes, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """One line, an error for the boot manager, and memory as before: the next one finds all that it needs."""
    stays = image(makes("stays", "", outcome="FAILED"))
    follows = image(makes("follows", 'relocatable = "any"'))
    command = ovmf.from_disk(qemu, stays, tmp_path, options=ovmf.next_disk(follows, tmp_path))
    transcript = run_until(command, ["hello: done"], timeout=90)
    assert transcript.reached, transcript
    first, second = transcript.text.index(TAKEN), transcript.text.index("hello from efi")
    assert first < second
    assert re.search(r"failed to start Boot\w+ .*: Out of Resources", transcript.text[first:second])
    assert transcript.text.count("bootbuild:") == 1


def test_debians_kernel_goes_elsewhere_and_gets_to_user_space(
    kernels: Kernels, gcc: Path, ovmf: Ovmf, qemu: Path, tmp_path: Path
) -> None:
    """A program that was started before has a page of its place, at 32 MiB, for good."""
    flavour = kernels.cloud
    record = build_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(flavour.vmlinux))}
        symbols = {json.dumps(str(flavour.system_map))}
        guest = "linux"
        startup = "startup_64"
        cmdline = "console=ttyS0 memblock=debug"
        [[payload.modules]]
        path = {json.dumps(str(kernels.initrd))}
        [targets.efi]
        relocatable = "low"
        profiles = ["taken"]
        """,
        tmp_path,
    )
    (verdict,) = record.images[0].verdicts
    assert verdict.outcome.name == "BOOTED"
    assert {run.placed and run.placed.virtual for run in verdict.runs} == {0}
    taker = tmp_path / "taker.efi"
    taker.write_bytes(efi_dump.compile_pe(gcc, [TAKER], tmp_path, ("-DTAKEN=0x2000000",)))
    command = ovmf.from_disk(
        qemu, taker, tmp_path, memory=1024, options=ovmf.next_disk(image(record), tmp_path)
    )
    transcript = run_until(
        command, ["taker: taken", "bootbuild-initrd up"], fail=firmware.FAILS[1:], timeout=120
    )
    assert transcript.reached, transcript
    (place, *_) = BRK.findall(transcript.text)
    linked = flavour.symbol("__brk_base") - 0xFFFFFFFF80000000
    assert int(place, 16) - linked == FREE - EARLY
