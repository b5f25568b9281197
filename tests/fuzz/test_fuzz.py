"""Twenty thousand mutated files: each is read, judged and built from, or refused in words, in time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import BootbuildError, InputError, Problem, VerificationError
from bootbuild.formats import rules
from bootbuild.host import Host
from drive import Tally, Trial, attempt, drive, image
from mutate import Herd
from specimens import specimens

DRIVER = Path(__file__).with_name("drive.py")
SEED, PARTS, CASES = 20161025, 8, 2600  #: of each part
LEAST_READ = 0.4  #: share whose headers are accepted: below, it would be the headers alone that are tested


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_but_words_comes_of_a_mutated_file(part: int) -> None:
    """In a process of its own with 2 GiB of addresses. `-rP` shows the figures."""
    command: list[str | Path] = [
        sys.executable,
        DRIVER,
        f"--seed={SEED}",
        f"--first={part * CASES}",
        f"--count={CASES}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    sys.stdout.write(done.stdout)
    assert found["findings"] == []
    assert done.returncode == 0
    assert found["cases"] == CASES
    assert found["past header validation"] >= LEAST_READ
    assert found["built"] > CASES // 100
    assert len(found["rules"]) > 20


def test_they_are_twenty_thousand() -> None:
    assert PARTS * CASES >= 20_000


def test_every_specimen_is_sound_as_it_is(tmp_path: Path) -> None:
    """Or nothing behind what refuses it would ever be reached."""
    host, tally = Host.discover(plugins=False), Tally()
    for specimen in specimens(image()):
        path = tmp_path / specimen.name
        path.write_bytes(specimen.data)
        Trial(path, host, tally).show()
    assert tally.read == len(specimens(image())) >= 20


def test_a_case_is_the_same_every_time() -> None:
    herd = Herd.of(specimens(image()))
    again = Herd.of(specimens(image()))
    cases = [herd.case(1, index)[:2] for index in range(200)]
    assert cases == [again.case(1, index)[:2] for index in range(200)]
    assert len(set(cases)) > 190


# What would be a finding is one.


def endless() -> None:
    while True:
        time.sleep(0.01)


def raises(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (raises(KeyError("version")), "KeyError('version')"),
        (raises(MemoryError()), "MemoryError()"),
        (raises(RecursionError("deep")), "RecursionError('deep')"),
        (raises(SystemExit(1)), "SystemExit(1)"),
        (raises(VerificationError(Problem(rules.EDITOR, "x", "y"))), "VerificationError"),
        (raises(InputError(Problem(rules.EDITOR, "x", ""))), "an error without words"),
        (endless, "more than 0.2 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_errors_and_endless_work_are_findings(work: Callable[[], None], said: str) -> None:
    found = attempt(work, 0.2)
    assert found.startswith(said)
    assert ("Traceback" in found) != ("without words" in found)
    assert attempt(raises(InputError(Problem(rules.EDITOR, "x", "words"))), 0.2) == ""
    assert attempt(lambda: None, 0.2) == ""


def test_a_loader_that_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(_self: object, _content: object) -> None:
        raise BootbuildError(Problem(rules.EDITOR, "x", "a model never raises"))

    monkeypatch.setattr("bootbuild_loaders.qemu.Qemu.judge", judge)
    tally = drive(SEED, 0, 3)
    assert tally.cases == 3
    assert len(tally.findings) == 3
    assert all("qemu raised" in found for found in tally.findings)
