"""A rule: what bootbuild checks, under an id that never changes its meaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One rule. `bootbuild explain ID` prints it whole.

    The id is `BB-` and a letter for the area (R recipe, P plugin, E input format, W written image,
    L loader, B boot, U reliance on undefined state, H handover) and three digits; a third party uses
    a prefix of its own instead of `BB`.
    """

    id: str
    title: str  #: a noun phrase: what is wrong when it is broken
    explanation: str  #: why it is a rule, with the source that makes it one
    remedy: str  #: how to get on, in the imperative
