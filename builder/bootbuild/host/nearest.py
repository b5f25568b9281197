"""Words in messages: foreign text made safe to print, and the known word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

SHOWN = 60  #: characters of foreign text that a message repeats
COMPARED = 64  #: longer words are not compared: difflib is quadratic in their length
_ALIKE = 4  #: characters with which names of `nearest_symbol` begin alike
_MANY = 2000  #: of those at most are compared


def shown(value: object) -> str:
    """`value` in quotes on one line: no control characters reach the terminal, and never much of it."""
    try:
        text = repr(value[: SHOWN + 1] if isinstance(value, str) else value)
    except ValueError:  # CPython refuses to print an integer of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN + 2 else text[:SHOWN] + "…"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest of `known`, else what there is, else "". A remedy."""
    names = sorted(known)
    return _nearest(word, names) or (f"known here: {', '.join(names)}" if names else "")


def nearest_symbol(name: str, symbols: Iterable[str]) -> str:
    """`did you mean 'x'?`, else "". A kernel has some 100,000 symbols: those alone that begin alike count."""
    alike = (one for one in symbols if one.startswith(name[:_ALIKE]) and len(one) <= COMPARED)
    return _nearest(name, [*islice(alike, _MANY)])


def _nearest(word: object, names: list[str]) -> str:
    if isinstance(word, str) and len(word) <= COMPARED:
        near = get_close_matches(word, names, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
    return ""
