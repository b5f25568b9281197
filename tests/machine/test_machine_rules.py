"""Each rule of the machine is seen: by running what breaks it, not by a list that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bootbuild.errors import MachineError
from bootbuild.machine.rules import RULES, STOP_RULE
from bootbuild.machine.run import Machine
from bootbuild.machine.selftest import CASES, check
from machine_guests import IDT, Guest, finish, long_guest
from strictness import L_AND_D, guest
from test_machine_stops import ENDS, FREE, RESERVED
from test_strictness import BROKEN

Make = Callable[[Guest | bytes], Machine]


def without_handlers(made: Guest) -> Guest:
    """The run then ends with the rule, which a handler would take for an event."""
    made.memory[IDT] = bytes(0x1000)
    return made


def test_every_rule_of_the_machine_is_broken_by_a_case(machine: Make) -> None:
    broken: list[Guest | bytes] = [code for code, _, rule, _ in ENDS.values() if rule]
    broken += [without_handlers(guest(case)) for case in BROKEN.values()]
    broken += [
        Guest(b"\xa3\x04\x20\xf0\x00\xf4", regions=(RESERVED,)),  # mov [0xf02004], eax
        Guest(b"\xa3\x04\x20\xf0\x00\xf4", regions=(FREE,)),
        long_guest(L_AND_D),
    ]
    seen = {finish(machine(one), budget=2_000_000).rule for one in broken}
    with pytest.raises(MachineError) as caught:  # an engine that counts otherwise than this one does
        check(replace(CASES[0], instructions=CASES[0].instructions + 1))
    seen |= {problem.rule.id for problem in caught.value.problems}
    assert seen == {rule.id for rule in RULES}


def test_rule_ids_are_unique_and_every_rule_says_how_to_get_on() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.title and rule.explanation and rule.remedy for rule in RULES)


def test_a_stop_names_a_rule_that_exists() -> None:
    assert set(STOP_RULE.values()) <= {rule.id for rule in RULES}
