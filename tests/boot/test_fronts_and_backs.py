"""Every front before every back that is installed: what the waist allows boots, and the rest has its reason.

Made from what is installed, so that a new target is held to it without a word here, whoever it is from; only
what is refused is written down. Another distribution's guest may want more of a kernel than the tiny one has.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from bootbuild.api.environment import may_give_up
from bootbuild.errors import RefusedError
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome
from recipe_text import build_text
from tiny_guest import STARTUP, guest

WIDTHS = (32, 64)
HOST = Host.discover()
GUESTS = ("linux", "multiboot2", "native", "pvh")
PAIRS = [(target, guest, width) for target in HOST.names("target") for guest in GUESTS for width in WIDTHS]
RING_3 = "cannot be entered in ring 3 by a stub"
NO_BACK = "cannot be entered by a stub at width 64"
CODE_32 = "its startup path is 32-bit code, and Xen enters 64-bit code"
REFUSED = {
    **{
        ("xen-pv", name, width): f"guest {name} {RING_3}"
        for name in ("linux", "multiboot2", "pvh")
        for width in WIDTHS
    },
    ("xen-pv", "native", 32): CODE_32,
    **{
        (target, name, 64): f"guest {name} {NO_BACK}"
        for target in HOST.names("target")
        for name in ("multiboot2", "pvh")
        if target != "xen-pv"
    },
}
"""(target, guest, width) → why no stub leads from the one to the other."""

CONTAINERS = {"linux": ("bzimage", "elf")}
"""Targets whose programs do not all take the same kind of file, with the kinds; each takes one."""
PHYS32_ENTRY, OTHER_NOTE = (struct.pack("<III", 4, 4, kind) + b"Xen\0" for kind in (18, 99))


def build_pair(target: str, guest_name: str, width: int, folder: Path, options: str = "") -> BuildRecord:
    """The tiny kernel, which stops at its startup path, as that guest: from recipe to verdicts."""
    folder.mkdir(exist_ok=True)
    kernel = guest()
    assert PHYS32_ENTRY in kernel
    if options:  # a PVH note comes before Linux's protocol
        kernel = kernel.replace(PHYS32_ENTRY, OTHER_NOTE)
    (folder / "kernel.elf").write_bytes(kernel)
    (folder / "module").write_bytes(os.urandom(5000))
    return build_text(
        f"""
        api = 1
        [payload]
        path = "kernel.elf"
        guest = {json.dumps(guest_name)}
        startup = {STARTUP:#x}
        width = {width}
        cmdline = "one two"
        [[payload.modules]]
        path = "module"
        [targets.{json.dumps(target)}]
        {options}
    """,
        folder,
    )


@pytest.mark.parametrize(("target", "guest_name", "width"), [pair for pair in PAIRS if pair not in REFUSED])
def test_a_pair_that_the_waist_allows_boots_in_every_profile(
    target: str, guest_name: str, width: int, tmp_path: Path
) -> None:
    kinds = CONTAINERS.get(target, ())
    records = [
        build_pair(target, guest_name, width, tmp_path / kind, f"container = {json.dumps(kind)}")
        for kind in kinds
    ] or [build_pair(target, guest_name, width, tmp_path)]
    verdicts = [verdict for record in records for image in record.images for verdict in image.verdicts]
    # some may give up where memory is kept for good, and say so; of two containers each profile reads one
    started = [
        verdict
        for verdict in verdicts
        if verdict.outcome is not Outcome.REFUSED
        or {finding.rule for finding in verdict.findings} & may_give_up(HOST.profile(verdict.name))
    ]
    assert len(verdicts) - len(started) == len(HOST.profiles_of(target)) * (len(records) - 1)
    assert {verdict.name for verdict in started} == set(HOST.profiles_of(target))
    for verdict in started:
        if verdict.outcome is Outcome.REFUSED:
            continue
        assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ()), verdict.name


@pytest.mark.parametrize(("target", "guest_name", "width"), [pair for pair in PAIRS if pair in REFUSED])
def test_a_pair_that_it_does_not_is_refused_with_the_reason(
    target: str, guest_name: str, width: int, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError) as caught:
        build_pair(target, guest_name, width, tmp_path)
    (problem,) = caught.value.problems
    assert problem.message == REFUSED[target, guest_name, width]
    assert problem.rule in HOST.target(target).rules
    assert not (tmp_path / "out").exists()


def test_every_refusal_is_of_what_is_installed() -> None:
    assert set(REFUSED) <= set(PAIRS)
