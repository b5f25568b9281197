"""An engine that is not the expected one is not trusted: BB-B090, and exit code 7."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.cli import main
from bootbuild.errors import ExitCode, MachineError
from bootbuild.machine import selftest
from bootbuild.machine.binding import VERSION, uc
from bootbuild.machine.calibrate import Layout, calibrate
from bootbuild.machine.selftest import CASES, Case, check, self_test


def rules(error: MachineError) -> list[str]:
    return [problem.rule.id for problem in error.problems]


def test_the_installed_engine_passes() -> None:
    self_test()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("wrong", ["kind", "instructions", "eax"])
def test_a_result_that_is_not_the_known_one_fails(case: Case, wrong: str) -> None:
    other: dict[str, Any] = {
        "kind": next(one.kind for one in CASES if one.kind is not case.kind),
        "instructions": case.instructions + 1,
        "eax": case.eax ^ 1,
    }
    with pytest.raises(
        MachineError, match=f"unicorn {VERSION}: self-test '{case.name}' came out as"
    ) as caught:
        check(replace(case, **{wrong: other[wrong]}))
    assert rules(caught.value) == ["BB-B090"]
    assert caught.value.exit_code is ExitCode.MACHINE


def passes(layout: Layout) -> bool:
    """Whether every known program comes out as known with this layout."""
    try:
        for case in CASES:
            check(case, layout)
    except (MachineError, ValueError, LookupError, AssertionError):
        return False
    return True


def test_the_calibrated_layout_passes() -> None:
    assert passes(calibrate())


@pytest.mark.parametrize("part", ["error_code", "counter"])
@pytest.mark.parametrize("off", [-8, 8])
def test_another_layout_of_the_engine_s_state_fails(part: str, off: int) -> None:
    layout = calibrate()
    assert not passes(replace(layout, **{part: getattr(layout, part) + off}))


def test_an_engine_that_starts_in_another_mode_is_not_calibrated() -> None:
    # A real engine whose registers cannot be where those of a 64-bit one are.
    with pytest.raises(MachineError) as caught:
        calibrate.__wrapped__(uc.UC_MODE_32)
    assert rules(caught.value) == ["BB-B090"]


def test_every_part_of_the_layout_is_known() -> None:
    assert [part.name for part in fields(Layout)] == ["state", "error_code", "counter"]
    assert all(getattr(calibrate(), part.name) > 0 for part in fields(Layout))


@pytest.fixture
def distrusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has not tested its engine yet, and expects of it one instruction more."""
    self_test.cache_clear()
    monkeypatch.setattr(selftest, "CASES", (replace(CASES[0], instructions=CASES[0].instructions + 1),))
    yield
    self_test.cache_clear()


def test_nothing_is_booted_on_an_engine_that_failed(
    distrusted: None, hello32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "hello.toml"
    recipe.write_text(f'api = 1\n[payload]\npath = "{hello32}"\nstartup = "startup_32"\n[targets.pvh]\n')
    assert main([str(recipe)]) == 7
    output = capsys.readouterr()
    assert f"unicorn {VERSION}: self-test 'halt' came out as" in output.err
    assert "(BB-B090); install the version of unicorn that constraints.txt pins" in output.err
    assert "BOOTED" not in output.out
