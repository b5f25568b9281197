"""Every loader model says of every file at the edges what the table has, and of any bytes at all something."""

from __future__ import annotations

import random

import pytest

from bootbuild.api import Loader, LoaderVerdict, MemoryContent
from bootbuild.host import Host
from corner_cases import CASES, COLUMNS, Case

NAMES = sorted({model for model, _ in COLUMNS})


def loader(name: str) -> Loader:
    return Host.discover().loader(name)


def said(model: str, data: bytes) -> dict[str, LoaderVerdict]:
    """What one model says, by protocol; each is asked about once."""
    found = loader(model).judge(MemoryContent(data))
    by_boot = {one.boot: one for one in found}
    assert len(by_boot) == len(found)
    return by_boot


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loader_says_what_the_table_has(case: Case, model: str) -> None:
    found = said(model, case.data)
    for boot in (boot for name, boot in COLUMNS if name == model):
        one = found[boot]
        assert (one.verdict, one.rule, one.entry) == case.said(model, boot)


def test_no_two_cases_have_one_name_or_one_file() -> None:
    assert len({case.name for case in CASES}) == len({case.data for case in CASES}) == len(CASES)


@pytest.mark.parametrize("model", NAMES)
def test_only_rules_of_its_own_are_named_and_each_of_them_is_met(model: str) -> None:
    """A model lists a rule that it never uses, or uses one that it does not list: both would show here."""
    met = {one.rule for case in CASES for one in said(model, case.data).values()} - {""}
    own = {rule.id for rule in loader(model).rules}
    assert met <= own
    assert own - met == set()


@pytest.mark.parametrize("model", NAMES)
def test_what_is_not_accepted_has_a_rule_and_what_is_jumped_to_an_address(model: str) -> None:
    for case in CASES:
        for one in said(model, case.data).values():
            assert one.verdict == "accept" or one.rule, case
            jumps = one.verdict in ("accept", "wild") and model != "grub-file"
            assert (one.entry is not None) == jumps, case
