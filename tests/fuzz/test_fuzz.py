"""20,000 mutated kernels through all that reads them: refused or read, in bounds of time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.formats.payload import open_payload
from bootbuild.host import Host
from bootbuild.report.inspection import inspect
from drive import made_image
from specimens import specimens

DRIVE = Path(__file__).with_name("drive.py")
CASES = 20_000
PARTS = 16  #: processes, for as many cores as there are


def drive(*arguments: str | int | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and report of a process of its own, whose address space is limited."""
    done = subprocess.run(
        [sys.executable, DRIVE, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("part", range(PARTS))
def test_only_errors_of_our_own_come_out(part: int, record_property: Callable[[str, object], None]) -> None:
    cases = CASES // PARTS
    code, report = drive("--first", part * cases, "--cases", cases)
    figures = {name: value for name, value in report.items() if name not in ("refusals", "verdicts")}
    print(figures)  # noqa: T201 - shown by -rP
    for name, value in figures.items():
        record_property(name, value)
    assert (report["findings"], code, report["cases"]) == ([], 0, cases)
    assert report["peak_mib"] < 512
    # What never comes past the headers tests the headers only.
    assert report["past_headers"] > 0.5 and report["accepted"] > 0.4
    assert report["opened"] > cases / 10 and report["scenes"] > cases / 10 and report["built"]


def test_cases_reach_every_model_and_most_rules() -> None:
    """As long as the specimens are what they were made to be, each of these is seen in a thousand cases."""
    _, report = drive("--cases", 1000)
    accepted = {name.rpartition(" ")[0] for name in report["verdicts"] if name.endswith(" accept")}
    assert accepted >= {
        "cloud-hypervisor linux", "cloud-hypervisor pvh", "firecracker linux", "firecracker pvh",
        "grub-file linux", "grub-file multiboot1", "grub-file multiboot2", "grub-file xen-pv",
        "grub-multiboot1 multiboot1", "grub-multiboot1-efi64 multiboot1",
        "grub-linux linux", "grub-linux-efi64 linux", "linux-loader-bzimage linux", "qemu-linux linux",
        "grub-multiboot2 multiboot2", "grub-multiboot2-efi64 multiboot2",
        "linux-loader pvh", "qemu multiboot1", "qemu pvh", "xen-libelf pvh",
        "xen-libelf xen-pv", "xen-xl pvh", "xen-xl xen-pv",
    }  # fmt: skip
    seen = {*report["refusals"]}
    assert seen >= {f"BB-E{number:03}" for number in (*range(2, 12), 13, 15, 16, *range(20, 24), 30)}


def test_every_specimen_is_sound_as_it_is(tmp_path: Path) -> None:
    """Or nothing behind what refuses it would ever be reached."""
    host = Host.discover(plugins=False)
    found = specimens(made_image(tmp_path, host))
    assert len({specimen.name for specimen in found}) == len(found) >= 30
    for specimen in found:
        (tmp_path / "kernel").write_bytes(specimen.data)
        assert open_payload(tmp_path / "kernel").elf.loads, specimen.name
        if specimen.name.startswith("kallsyms"):
            assert "start_kernel" in inspect(tmp_path / "kernel", host).elf.symbols


def test_a_case_is_the_same_wherever_it_is_run(tmp_path: Path) -> None:
    files = [tmp_path / "whole", tmp_path / "alone"]
    drive("--cases", 6, "--keep", files[0])
    drive("--first", 5, "--cases", 1, "--keep", files[1])
    assert files[0].read_bytes() == files[1].read_bytes() != b""


FAULTS = {
    "an exception": ("inspection.inspect", "raise KeyError('planted')", "KeyError", "planted"),
    "an error that blames bootbuild": (
        "inspection.inspect",
        "raise errors.VerificationError(errors.Problem(wrong, 'planted', 'wrong'))",
        "VerificationError",
        "planted: wrong",
    ),
    "too much time": ("inspection.inspect", "while True: pass", "TooSlow", "more than 2.0 s of CPU"),
    "a model that blames the file, which only readers may": (
        "open_content",
        "raise errors.InputError(errors.Problem(wrong, 'x', 'planted'))",
        "InputError",
        "x: planted",
    ),
    "too much memory": ("inspection.inspect", "bytes(4 << 30)", "MemoryError", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    """The driver with a part that is broken in this way the third time that it is called."""
    part, statement, kind, said = FAULTS[name]
    program = f"""
import sys
sys.argv[1:] = ["--cases", "4"]
sys.path.insert(0, {str(DRIVE.parent)!r})
import drive
from bootbuild import errors
wrong = errors.Rule("X-1", "", "", "")
calls = []
real = drive.{part}
def broken(*arguments):
    calls.append(arguments)
    if len(calls) == 3:
        exec({statement!r})
    return real(*arguments)
drive.{part} = broken
sys.exit(drive.main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    assert (finding["case"], finding["count"]) == (2, 1)
    assert finding["what"].startswith(f"{kind} at ") and said in finding["said"]
