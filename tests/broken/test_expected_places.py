"""The startup path, and what is expected behind it: reached as it should be, or told why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootbuild.api import Startup
from bootbuild.boot.prove import prove
from bootbuild.guests.native import Native
from bootbuild.model.verdict import Outcome
from bootbuild_pvh.environments import Qemu
from profile_proof import branch
from tiny_guest import PAGE, STARTUP, guest, subject, u32

#: out to the serial port
SAY_OK = b"".join(b"\x66\xba\xf8\x03\xb0" + bytes([byte]) + b"\xee" for byte in b"OK")


def test_what_is_printed_before_the_startup_path_does_not_count() -> None:
    early = prove(subject(guest(later=SAY_OK), expect=b"OK"), Qemu())
    assert (early.outcome, [f.rule for f in early.findings]) == (Outcome.FAILED, ["BB-B023"])
    late = prove(subject(guest(startup=SAY_OK + b"\xfa\xf4"), expect=b"OK"), Qemu())
    assert late.outcome is Outcome.BOOTED


def test_a_fault_before_the_expected_text_says_that_it_is_missing() -> None:
    (finding,) = prove(subject(guest(startup=b"\x0f\x0b"), expect=b"hello"), Qemu()).findings
    assert finding.message.startswith("'hello' was not printed: ") and "#UD" in finding.message


def test_the_startup_paths_address_must_lead_to_the_startup_path() -> None:
    """Linked at PAGE, loaded at STARTUP: without such a mapping a jump to PAGE executes something else."""
    elsewhere = guest(later=b"\xb8" + u32(PAGE) + b"\xff\xe0", page=b"\xf4" * 64)
    asked = replace(subject(elsewhere), startup=Startup("startup_32", PAGE, STARTUP, 32))
    verdict = prove(asked, Qemu())
    assert (verdict.outcome, {f.rule for f in verdict.findings}) == (Outcome.FAILED, {"BB-B020"})
    assert f"which leads to physical {PAGE:#x}, not to {STARTUP:#x}" in verdict.findings[0].message


def test_the_startup_path_must_be_reached_in_its_own_mode() -> None:
    """64-bit code that a 32-bit guest jumps to: the same bytes, executed as other instructions."""
    asked = replace(subject(guest()), startup=Startup("startup_64", STARTUP, STARTUP, 64))
    verdict = prove(asked, Qemu())
    assert (verdict.outcome, [f.rule for f in verdict.findings]) == (Outcome.FAILED, ["BB-B028"])
    assert verdict.findings[0].message == "startup_64 was reached in 32-bit code, its own is 64-bit"
    assert prove(asked, Qemu(), disabled=frozenset({"BB-B028"})).findings == ()


LOSES_ITS_WAY = b"\xa8\x02\x74\x03\x40\xeb\xfd"  # test $2, %al; jz 1f; 0: inc %eax; jmp 0b; 1:


@pytest.mark.parametrize(
    ("first", "rules", "outcome"),
    [
        # POISON_A loses its way, POISON_B halts: the one proves nothing, the other does
        (LOSES_ITS_WAY + branch(b"\xa8\x01"), {"BB-U001"}, Outcome.FAILED),
        (LOSES_ITS_WAY, {"BB-B025"}, Outcome.INCONCLUSIVE),
    ],
    ids=["beside a proof", "alone"],
)
def test_what_the_clock_ends_neither_proves_nor_hides(
    first: bytes, rules: set[str], outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootbuild.boot.prove._SLACK", 10**12)
    verdict = prove(subject(guest(first=first), budget=10**12, timeout=0.3), Qemu())
    assert ({f.rule for f in verdict.findings}, verdict.outcome) == (rules, outcome)


def test_a_clock_that_runs_out_behind_a_proved_finding_leaves_it_proved() -> None:
    """The handover is wrong (there is none), then the text does not come in time."""
    counts = guest(startup=b"\x40\xeb\xfd")
    asked = subject(counts, expect=b"hello", budget=10**12, timeout=0.3, guest_protocol=Native())
    verdict = prove(asked, Qemu())
    assert "BB-B025" in {f.rule for f in verdict.findings}
    assert verdict.outcome is Outcome.FAILED


GOAL = Startup("goal", PAGE, PAGE, 32)
ON = b"\xe9" + u32(PAGE - STARTUP - 5)  # jmp PAGE
SAY_AND_GO_ON = SAY_OK + b"\xe9" + u32(PAGE - STARTUP - len(SAY_OK) - 5)


@pytest.mark.parametrize(
    ("startup", "expect", "outcome", "rules", "reached"),
    [
        (ON, b"", Outcome.BOOTED, [], "startup_32, goal"),
        (SAY_AND_GO_ON, b"OK", Outcome.BOOTED, [], "startup_32, goal, console 'OK'"),
        (ON, b"OK", Outcome.FAILED, ["BB-B023"], "startup_32, goal"),
        (b"\xfa\xf4", b"", Outcome.FAILED, ["BB-B005"], "startup_32"),
        (b"\x0f\x0b", b"", Outcome.FAILED, ["BB-B001"], "startup_32"),
    ],
    ids=["it is", "text before it", "text that does not come", "halts first", "faults first"],
)  # fmt: skip
def test_a_place_behind_the_startup_path_may_be_expected(
    startup: bytes, expect: bytes, outcome: Outcome, rules: list[str], reached: str
) -> None:
    asked = subject(guest(startup=startup, page=b"\xfa\xf4"), expect=expect)
    verdict = prove(replace(asked, goal=GOAL), Qemu())
    assert ([f.rule for f in verdict.findings], verdict.outcome) == (rules, outcome)
    assert verdict.reached == reached
    if reached == "startup_32":
        assert verdict.findings[0].message.startswith("goal was not reached: ")


def test_a_startup_path_that_is_not_reached_is_named() -> None:
    verdict = prove(replace(subject(guest()), budget=3), Qemu())
    (finding,) = verdict.findings
    assert (finding.rule, finding.message) == (
        "BB-B006",
        "startup_32 was not reached: 3 instructions were executed",
    )


def test_the_expected_places_address_must_lead_to_it() -> None:
    asked = replace(subject(guest(startup=ON, page=b"\xfa\xf4")), goal=replace(GOAL, paddr=PAGE + 16))
    verdict = prove(asked, Qemu())
    assert [f.rule for f in verdict.findings] == ["BB-B020"]
    assert verdict.findings[0].message.startswith("goal was reached at ")
