"""Every front before every back that is installed: what the waist allows boots, and the rest has its reason.

Made from what is installed, so that a new target is held to it without a word here, whoever it is from; only
what is refused is written down. Another distribution's guest may want more of a kernel than the tiny one has.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bootbuild.api.environment import may_give_up
from bootbuild.errors import RefusedError
from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
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


def build_pair(target: str, guest_name: str, width: int, folder: Path) -> BuildRecord:
    """The tiny kernel, which stops at its startup path, as that guest: from recipe to verdicts."""
    (folder / "kernel.elf").write_bytes(guest())
    (folder / "module").write_bytes(os.urandom(5000))
    path = folder / "recipe.toml"
    path.write_text(f"""
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
    """)
    host = Host.discover()
    return build(read(path, host, Overrides()), host)


@pytest.mark.parametrize(("target", "guest_name", "width"), [pair for pair in PAIRS if pair not in REFUSED])
def test_a_pair_that_the_waist_allows_boots_in_every_profile(
    target: str, guest_name: str, width: int, tmp_path: Path
) -> None:
    (image,) = build_pair(target, guest_name, width, tmp_path).images
    assert {verdict.name for verdict in image.verdicts} == set(HOST.profiles_of(target))
    for verdict in image.verdicts:
        if verdict.outcome is Outcome.REFUSED:  # where it may, and says so: its memory is kept for good
            rules = {finding.rule for finding in verdict.findings}
            assert rules <= may_give_up(HOST.profile(verdict.name)), verdict.name
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
