"""What a boot is judged by beside its guest: handover, clock, loader model, digest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from bootbuild.api import (
    Content,
    ElfImage,
    Evidence,
    Filling,
    Finding,
    Given,
    GuestView,
    LoaderVerdict,
    Offer,
    Scene,
    Span,
    Startup,
    StopKind,
)
from bootbuild.boot.prove import prove
from bootbuild.boot.run import run_once
from bootbuild.guests.native import Native
from bootbuild.model.verdict import Outcome
from bootbuild_pvh.environments import Firecracker, Qemu
from profile_proof import BSS_IS_ZERO, out_byte
from tiny_guest import ENTRY, guest, subject, u32


class _HandsOver(Native):
    """A protocol whose handover is the EAX that its startup path is entered with."""

    def judge(
        self, view: GuestView, startup: Startup, given: Given, stub: Span | None, symbols: Mapping[str, int]
    ) -> tuple[Mapping[str, Any], Sequence[Finding]]:
        return {"EAX": hex(view.get("eax"))}, ()


def test_a_handover_that_differs_is_a_reliance_though_the_way_is_the_same() -> None:
    verdict = prove(subject(guest(), guest_protocol=_HandsOver()), Qemu())
    assert [(f.rule, f.message) for f in verdict.findings] == [
        ("BB-U001", "relies on EAX, which pvh leaves undefined: what is handed over changes with it")
    ]
    assert len({run.digest for run in verdict.runs}) == 3
    assert len({run.blocks[: run.startup_blocks] for run in verdict.runs}) == 1


def test_a_digest_tells_whether_the_startup_path_was_reached() -> None:
    middle = Startup("middle", ENTRY + 2, ENTRY + 2, 32)  # of the first block: cli; cld; mov $STACK_TOP, %esp
    what = replace(subject(guest()), startup=middle, code=b"")
    whole = run_once(what, Qemu(), Filling.EXACT, what.budget).trace
    short = run_once(what, Qemu(), Filling.EXACT, whole.instructions - 1).trace
    assert (whole.stop.kind, short.stop.kind) == (StopKind.CHECKPOINT, StopKind.BUDGET)
    assert (whole.blocks, whole.startup_blocks) == (short.blocks, short.startup_blocks)
    assert whole.digest != short.digest


class _Slow(Qemu):
    """A profile whose scene takes longer to build than the whole boot may."""

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        time.sleep(0.6)
        return super().scene(image, offer, filling, only)


def test_what_is_printed_after_the_startup_path_gets_what_is_left_of_the_time() -> None:
    count = b"\xb9" + u32(1_000_000) + b"\x49\x75\xfd"  # mov $1000000, %ecx; 1: dec %ecx; jnz 1b
    what = subject(guest(startup=count + out_byte(0x3F8, 0x48) + b"\xfa\xf4"), expect=b"H", timeout=0.5)
    assert run_once(what, Qemu(), Filling.EXACT, what.budget).findings == ()
    late = run_once(what, _Slow(), Filling.EXACT, what.budget)
    assert [finding.rule for finding in late.findings] == ["BB-B025"]


class _Refusing:
    """A loader that accepts nothing."""

    name, version, evidence, source, rules = "refusing", "1", Evidence.INFERRED, "this test", ()

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        return [LoaderVerdict("pvh", "refuse", rule=self.rule, message="no thanks")]


class _Elsewhere(_Refusing):
    """A loader that enters every file at an address of its own."""

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        return [LoaderVerdict("pvh", "accept", 0x123456)]


def test_a_loader_that_enters_the_file_elsewhere_is_believed() -> None:
    verdict = prove(subject(guest()), Qemu(), _Elsewhere(""))
    assert (verdict.outcome, verdict.runs) == (Outcome.FAILED, ())
    assert [(f.rule, f.message) for f in verdict.findings] == [
        ("BB-B027", "refusing 1 enters it at 0x123456, the profile at 0x101000")
    ]


@pytest.mark.parametrize(("named", "found"), [("", "BB-B024"), ("REFUSING-1", "REFUSING-1")])
def test_a_file_that_the_loader_refuses_is_failed_without_a_boot(named: str, found: str) -> None:
    verdict = prove(subject(guest()), Qemu(), _Refusing(named))
    assert (verdict.outcome, [f.rule for f in verdict.findings]) == (Outcome.FAILED, [found])
    assert verdict.runs == ()
    assert "no thanks" in verdict.findings[0].message


class _Foreign(_Refusing):
    """A loader that speaks of another protocol than the profile's."""

    def __init__(self, verdict: Literal["accept", "refuse"]) -> None:
        super().__init__("REFUSING-1")
        self.verdict: Literal["accept", "refuse"] = verdict

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        return [LoaderVerdict("linux", self.verdict, rule=self.rule, message="no ELF")]


def test_a_loader_without_an_answer_for_the_protocol() -> None:
    """What it says of the whole file is the reason; if it takes the file another way, there is `check`."""
    (whole,) = prove(subject(guest()), Qemu(), _Foreign("refuse")).findings
    assert (whole.rule, whole.message) == ("REFUSING-1", "refusing 1: refuse: no ELF")
    (other,) = prove(subject(guest()), Qemu(), _Foreign("accept")).findings
    assert (other.rule, other.message) == ("BB-B024", "refusing 1 does not start this file as pvh")
    assert "`bootbuild check`" in other.remedy


def test_what_a_guest_relies_on_is_named() -> None:
    verdict = prove(subject(guest(first=b"\x50\x58")), Qemu())
    assert verdict.findings[0].message.startswith("relies on ESP, which pvh leaves undefined: ")
    verdict = prove(subject(guest(later=BSS_IS_ZERO)), Firecracker())
    assert verdict.findings[0].message.startswith("relies on .bss, which linux-loader leaves undefined: ")
