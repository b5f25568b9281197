"""Every rule has an id of its own, is written in full, and can be explained."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import bootbuild
from bootbuild.host.catalogue import core_rules
from bootbuild.host.rules import RULES

SOURCES = Path(bootbuild.__file__).parent
DEFINED = re.compile(r'Rule\(\s*(?:id=)?"(BB-[^"]*)"')


def test_no_two_rules_have_one_id() -> None:
    defined = Counter(
        rule for path in SOURCES.rglob("*.py") for rule in DEFINED.findall(path.read_text(encoding="utf-8"))
    )
    assert defined
    assert [rule for rule, count in defined.items() if count > 1] == []


def test_every_rule_of_core_is_in_the_catalogue() -> None:
    defined = {
        rule for path in SOURCES.rglob("*.py") for rule in DEFINED.findall(path.read_text(encoding="utf-8"))
    }
    assert defined <= core_rules().keys()


def test_every_rule_is_written_in_full() -> None:
    for rule, origin in core_rules().values():
        assert re.fullmatch(r"BB-[RPEWLBUH]\d{3}", rule.id), (rule.id, origin)
        assert rule.title, rule.id
        assert not rule.title.endswith("."), rule.id
        assert rule.explanation.strip().endswith("."), rule.id
        assert rule.remedy, rule.id
        assert not rule.remedy.endswith("."), rule.id


def test_the_hosts_rules_are_in_order() -> None:
    assert [rule.id for rule in RULES] == [f"BB-P{number:03}" for number in range(1, len(RULES) + 1)]
