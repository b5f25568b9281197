"""Each rule of the machine is broken by a case of this suite."""

from __future__ import annotations

from bootbuild.machine.rules import RULES, STOP_RULE
from test_machine_stops import ENDS
from test_strictness import BROKEN


def test_every_rule_of_the_machine_is_broken_by_a_case() -> None:
    covered = {case.rule for case in BROKEN.values()} | {rule for _, _, rule, _ in ENDS.values() if rule}
    covered |= {"BB-B003"}  # test_machine_stops: its region is not one of the table's guests
    covered |= {"BB-B017"}  # test_strictness: no #GP that a handler could take
    covered |= {"BB-B090"}  # test_self_test
    assert covered == {rule.id for rule in RULES}


def test_rule_ids_are_unique_and_every_rule_says_how_to_get_on() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.title and rule.explanation and rule.remedy for rule in RULES)


def test_a_stop_names_a_rule_that_exists() -> None:
    assert set(STOP_RULE.values()) <= {rule.id for rule in RULES}
