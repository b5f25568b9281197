"""Target efi with `relocatable`: where the kernel's memory is taken for good it goes elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.api import (
    FileContent,
    Note,
    Outcome,
    Payload,
    ProfileVerdict,
    RefusedError,
    Startup,
    Words,
    read_elf,
)
from bootbuild.guests.native import Native
from bootbuild.model.record import BuildRecord
from bootbuild.report import text
from bootbuild_efi.options import Options
from bootbuild_efi.targets import Efi
from bootbuild_linux.guests import Linux
from recipe_text import build_text
from workshop import Workshop

MiB = 1 << 20
LOAD = 16 * MiB
TAKEN_END = 64 * MiB  #: of what the firmware keeps in efi@taken
MODULE, MODULES = 64 * MiB, "[[payload.modules]]\npath = 'module'"
Make = Callable[..., BuildRecord]


@pytest.fixture
def make(workshop: Workshop, tmp_path: Path) -> Make:
    def made(
        target: str,
        *,
        width: int = 64,
        guest: str = "native",
        load: int = LOAD,
        kernel: Path | None = None,
        more: str = "",
    ) -> BuildRecord:
        payload = kernel or workshop.pie(f"efi-moved{width}", width)
        return build_text(
            f"""
            api = 1
            [payload]
            path = {json.dumps(str(payload))}
            startup = "startup_{width}"
            width = {width}
            guest = "{guest}"
            load = {load:#x}
            cmdline = "greeting=hello"
            {more}
            [targets.efi]
            {target}
            [expect]
            {'console = "hello: done"' if guest == "native" and not more else ""}
            """,
            tmp_path,
        )

    return made


def verdicts(record: BuildRecord) -> dict[str, ProfileVerdict]:
    return {v.name.removeprefix("efi@"): v for image in record.images for v in image.verdicts}


def moved(verdict: ProfileVerdict) -> list[int]:
    """By how much the kernel was moved in each run."""
    return [0 if run.placed is None else run.placed.physical for run in verdict.runs]


def said(verdict: ProfileVerdict) -> list[str]:
    return [
        line
        for finding in verdict.findings
        for line in finding.lines
        if line.startswith("console: bootbuild")
    ]


@pytest.mark.parametrize("width", [64, 32])
def test_hello_boots_in_every_profile_and_stays_where_it_can(make: Make, width: int) -> None:
    record = make('relocatable = "any"', width=width)
    found = verdicts(record)
    assert {v.outcome for v in found.values()} == {Outcome.BOOTED}
    assert {name for name, v in found.items() if any(moved(v))} == {"taken"}
    assert re.findall(r"^moved by .*: (.*)$", text.build([record]), re.MULTILINE) == ["efi@taken"]


def test_as_low_as_it_can_be(make: Make) -> None:
    """That is the end of what is taken."""
    record = make('relocatable = "low"\nprofiles = ["taken"]')
    verdict = verdicts(record)["taken"]
    assert moved(verdict) == [TAKEN_END - LOAD] * 3
    assert f"\nmoved by {TAKEN_END - LOAD:+#x}: efi@taken\n" in text.build([record])
    assert verdict.handover is not None
    assert verdict.handover["stub"]["base"] == hex(TAKEN_END + 2 * MiB)


def test_as_high_as_it_can_be(make: Make) -> None:
    """Below the application, which the firmware loads as high as it can, and all that it has placed there."""
    places = {
        by + LOAD for by in moved(verdicts(make('relocatable = "high"\nprofiles = ["taken"]'))["taken"])
    }
    assert all(place in range(440 * MiB, 512 * MiB, 2 * MiB) for place in places)


def test_each_run_may_have_it_elsewhere(make: Make, tmp_path: Path) -> None:
    """A large application is loaded at either end of the one hole that takes it."""
    with (tmp_path / "module").open("wb") as module:
        module.truncate(MODULE)
    verdict = verdicts(make('relocatable = "low"\nprofiles = ["taken"]', more=MODULES))["taken"]
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert {by + LOAD for by in moved(verdict)} == {TAKEN_END, TAKEN_END + MODULE + 2 * MiB}


@pytest.mark.parametrize(("guest", "width"), [("linux", 64), ("linux", 32), ("pvh", 32)])
def test_other_guests_that_are_movable(make: Make, guest: str, width: int) -> None:
    verdict = verdicts(make('relocatable = "low"\nprofiles = ["taken"]', guest=guest, width=width))["taken"]
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert moved(verdict)[0] == TAKEN_END - LOAD


def test_beside_boot_services(make: Make) -> None:
    """OVMF has the memory from 9 to 21 MiB in use as long as they live."""
    record = make('relocatable = "low"\nboot_services = true\nprofiles = ["taken", "ovmf"]')
    found = verdicts(record)
    assert [v.findings for v in found.values()] == [(), ()]
    assert [moved(found[name])[0] + LOAD for name in ("taken", "ovmf")] == [TAKEN_END, 2 * MiB]


def aligned(workshop: Workshop, align: int) -> Path:
    """hello with such a p_align, whose first segment begins with the file."""
    page = ("-z", f"max-page-size={align:#x}")
    return workshop.pie(f"efi-aligned{align:x}", 64, *page, FIRST="FILEHDR PHDRS", START="SIZEOF_HEADERS")


#: p_align, where it is linked, and where it goes in efi@low-memory, whose RAM ends at 192 MiB
PLACES = {
    "a page": (0x1000, 192 * MiB, 2 * MiB),
    "64 MiB": (64 * MiB, 192 * MiB, 64 * MiB),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_there_is_no_memory_that_it_is_linked_for(make: Make, workshop: Workshop, name: str) -> None:
    """It goes to a multiple of its largest p_align, and of 2 MiB at the least, from where it is linked."""
    align, linked, goes = PLACES[name]
    record = make(
        'relocatable = "any"\nprofiles = ["low-memory"]', load=linked, kernel=aligned(workshop, align)
    )
    verdict = verdicts(record)["low-memory"]
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert moved(verdict) == [goes - linked] * 3


def test_without_another_place_it_says_so(make: Make, workshop: Workshop) -> None:
    large = aligned(workshop, 256 * MiB)
    verdict = verdicts(make('relocatable = "any"', load=256 * MiB, kernel=large))["low-memory"]
    assert verdict.outcome is Outcome.REFUSED
    reason = "the memory that it is linked for is taken, and none is free for it elsewhere"
    assert said(verdict) == [f"console: bootbuild: cannot start the kernel: {reason}"]


HIGH = 0xFFFFFFFF80000000
#: who says what it is, the code's width, and how far it is linked from where it is loaded
KERNELS = {
    "a Linux": ("Linux", 64, HIGH, True),
    "another kernel": ("Xen", 64, HIGH, False),
    "32-bit code": ("Linux", 32, HIGH, False),
    "linked otherwise": ("Linux", 64, 0, False),
}


@pytest.mark.parametrize("name", KERNELS)
def test_which_kernels_find_themselves(hello64: Path, name: str) -> None:
    owner, width, shift, finds = KERNELS[name]
    elf = replace(read_elf(FileContent(hello64), "hello"), notes=(Note(owner, 257, b"", 0, 0),))
    at = elf.loads[0].paddr
    startup = Startup("here", at + shift, at, width, "physical")
    assert Linux().finds_itself(elf, startup) is finds


def test_a_linux_is_moved_as_it_is(hello64: Path) -> None:
    """No word of it is mended, and guests that are no Linux do not ask."""
    elf = replace(read_elf(FileContent(hello64), "hello"), notes=(Note("Linux", 257, b"", 0, 0),))
    loads = [replace(s, vaddr=s.vaddr + HIGH) for s in elf.loads]
    elf = replace(elf, segments=tuple(loads))
    at = loads[0].paddr
    startup = Startup("startup_64", at + HIGH, at, 64, "physical")
    payload = Payload(elf, "kernel", "elf", "", "linux", startup)
    made = Efi().contribute(payload, Linux(), Options(relocatable="any"))
    assert made.addresses == Words()
    with pytest.raises(RefusedError, match="no static PIE"):
        Efi().contribute(payload, Native(), Options(relocatable="any"))


def test_one_that_may_not_be_moved_says_so(make: Make) -> None:
    verdict = verdicts(make(""))["taken"]
    assert verdict.outcome is Outcome.REFUSED
    assert said(verdict) == [
        "console: bootbuild: cannot start the kernel: the memory that it is linked for is taken for good"
    ]
