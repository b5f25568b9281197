"""The rules of all models, for each model to take its own from."""

from __future__ import annotations

from bootbuild.api import Rule
from bootbuild_loaders import linux_rules, multiboot_rules, pe_rules, rules

_BY_ID = {rule.id: rule for part in (rules, linux_rules, multiboot_rules, pe_rules) for rule in part.RULES}


def only(*ids: str) -> tuple[Rule, ...]:
    """The rules that one model names, in the order of their ids."""
    return tuple(_BY_ID[id_] for id_ in sorted(ids))
