"""Every rule has an id of its own, is written in full, and can be explained."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import bootbuild
from bootbuild.host import Host
from bootbuild.host.catalogue import all_rules, core_rules
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


def test_every_rule_of_core_and_of_the_plugins_that_come_with_it_is_in_a_test(repository: Path) -> None:
    """As a string of a test, not in a comment or docstring: silence is not success."""
    host = Host.discover(plugins=False)
    assert host.load_all() == ()
    found = {
        rule
        for path in sorted((repository / "tests").rglob("*.py"))
        for text in strings(ast.parse(path.read_text(encoding="utf-8")))
        for rule in re.findall(r"BB-[A-Z]\d{3}(?!\d)", text)
    }
    assert sorted(all_rules(host).keys() - found) == []


def strings(tree: ast.Module) -> Iterator[str]:
    """Every string in a module that is part of an expression with a use."""
    unused = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unused:
            yield node.value
