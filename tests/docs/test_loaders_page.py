"""docs/loaders.md has every loader model with its version and evidence, and says what each says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from bootbuild.api import LoaderVerdict, MemoryContent, Said
from bootbuild.host import Host
from corner_case import Case
from corner_dom0 import DOM0
from corner_kernels import START
from corner_pvh import MATRIX
from linux_cases import CASES as LINUX
from linux_cases import COLUMNS as LINUX_COLUMNS
from pe_cases import CASES as PE
from tiny_elf import HIGH

PAGE = Path(__file__).resolve().parents[2] / "docs/loaders.md"
TEXT = PAGE.read_text(encoding="utf-8")
WORDS = {"accept": "ok", "refuse": "", "ignore": "ignored", "wild": "goes wild", "crash": "dies"}


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, its own heading first."""
    section = re.split("^## ", TEXT.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in (rows[0], *rows[2:])]


def shown(one: LoaderVerdict) -> str:
    """A verdict in a cell: what, where if not as meant, by which rule."""
    meant = {None, START, HIGH[64] + START}
    at = "" if one.entry in meant else f"at {one.entry:#x}"
    return " ".join(word for word in (WORDS[one.verdict], at, one.rule) if word)


def test_every_model_is_there_as_it_is() -> None:
    host = Host.discover(plugins=False)
    rows = {row[0].strip("`"): row for row in table("The models")[1:]}
    assert set(rows) == set(host.names("loader"))
    for name, row in rows.items():
        loader = host.loader(name)
        assert row[2:4] == [loader.version, loader.evidence.value]
        said = {one.boot for case in (*MATRIX, *DOM0) for one in loader.judge(MemoryContent(case.data))}
        assert said <= set(row[4].split(", "))


def test_every_row_about_a_bzimage_says_what_the_models_say() -> None:
    cases = {str(case): case for case in LINUX}
    (_, *columns), *rows = table("What the loaders of Linux take")
    assert set(columns) == set(LINUX_COLUMNS)
    for name, *cells in rows:
        for model, cell in zip(columns, cells, strict=True):
            said = cases[name].said(model)
            at = "" if said is None or said[2] in (None, LINUX_COLUMNS[model]) else f"at {said[2]:#x}"
            words = () if said is None else (WORDS[said[0]], at, said[1])
            assert cell == " ".join(word for word in words if word), (name, model)


def test_every_verdict_is_explained() -> None:
    assert [row[0].strip("`") for row in table("The verdicts")[1:]] == list(get_args(Said))
    assert set(WORDS) == set(get_args(Said))


@pytest.mark.parametrize(
    ("heading", "cases"),
    [("Where loaders disagree about a PVH kernel", MATRIX), ("What Xen takes and refuses", DOM0)],
)
def test_every_row_says_what_the_models_say(heading: str, cases: Sequence[Case]) -> None:
    host = Host.discover(plugins=False)
    (_, *columns), *rows = table(heading)
    assert [row[0] for row in rows] == [case.name for case in cases]
    for row, case in zip(rows, cases, strict=True):
        for column, cell in zip(columns, row[1:], strict=True):
            model, _, boot = column.partition(" ")
            found = host.loader(model).judge(MemoryContent(case.data))
            assert cell == shown(next(one for one in found if one.boot == (boot or "pvh"))), row


def test_every_row_about_uefi_says_what_the_models_say() -> None:
    host = Host.discover(plugins=False)
    (_, *columns), *rows = table("What loaders of UEFI applications take")
    cases = {str(case): case for case in PE}
    assert len(rows) > 40
    for name, *cells in rows:
        found = [host.loader(model).judge(MemoryContent(cases[name].file(model))) for model in columns]
        assert cells == [shown(one) for (one,) in found], name
