"""An image that lies elsewhere than it is linked: there is what is to be proved of it, and of its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bootbuild.formats.symbols import LazySymbols
from bootbuild.model.payload import Startup
from bootbuild.model.span import Span
from bootbuild.model.trace import LINKED, Placed

if TYPE_CHECKING:
    from bootbuild.boot.run import Subject

_M64 = (1 << 64) - 1
_WORDS = (8, 4)  #: bytes of what may hold an address
_CHANGED = re.compile(rb"[^\0]")
_STEP = 1 << 20  #: bytes of memory looked at in one piece
_Read = Callable[[int, int], bytes]


def where_it_lies(subject: Subject, placed: Placed) -> Subject:
    """What is to be proved, of an image that its loader has put elsewhere, or that has put itself there.

    Physical addresses move, and with them linked ones that are the same; all other linked ones move as the
    kernel has mapped itself. Which symbols are of which kind the startup path tells.
    """
    if placed == LINKED:
        return subject
    startup, goal = subject.startup, subject.goal
    by = _linked(startup.vaddr, startup.paddr, placed) - startup.vaddr
    symbols = subject.symbols
    if by and isinstance(symbols, LazySymbols):
        symbols = symbols.moved(by)
    elif by:
        symbols = {name: address + by for name, address in symbols.items()}
    segments = (
        replace(s, vaddr=_linked(s.vaddr, s.paddr, placed), paddr=s.paddr + placed.physical)
        for s in subject.image.segments
    )
    stub = subject.stub
    return replace(
        subject,
        image=replace(subject.image, segments=tuple(segments), symbols=symbols),
        startup=_startup(startup, placed),
        goal=None if goal is None else _startup(goal, placed),
        stub=None if stub is None else Span(stub.start + placed.physical, stub.size),
        symbols=symbols,
        placed=placed,
    )


def _linked(vaddr: int, paddr: int, placed: Placed) -> int:
    return vaddr + (placed.physical if vaddr == paddr else placed.virtual)


def _startup(startup: Startup, placed: Placed) -> Startup:
    return replace(
        startup,
        vaddr=_linked(startup.vaddr, startup.paddr, placed),
        paddr=startup.paddr + placed.physical,
        load_offset=startup.load_offset + placed.physical & _M64,
    )


def first_change(expected: _Read, found: _Read, size: int, placed: Placed = LINKED) -> int | None:
    """The first of `size` bytes that is not as expected; a word that has grown as addresses have is.

    Words shrink by as much that are relative to what stays, a CPU's own data (Linux, tools/relocs.c). Both
    are asked for bytes by offset and size.
    """
    growths = {placed.physical, placed.virtual, -placed.virtual} - {0}
    most = max(_WORDS)
    for start in range(0, size, _STEP):
        stop = min(start + _STEP, size)
        low, high = max(start - most, 0), min(stop + most, size)
        was, now = expected(low, high - low), found(low, high - low)
        if was != now:
            changes = (at for at in _differences(was, now) if start <= low + at < stop)
            at = _first_not_grown(was, now, growths, changes)
            if at is not None:
                return low + at
    return None


def _differences(was: bytes, now: bytes) -> Iterator[int]:
    both = int.from_bytes(was, "little") ^ int.from_bytes(now, "little")
    return (match.start() for match in _CHANGED.finditer(both.to_bytes(len(was), "little")))


def _first_not_grown(was: bytes, now: bytes, growths: Collection[int], changes: Iterator[int]) -> int | None:
    end = 0  # of the last word that has grown
    for at in changes:
        if at >= end:
            grown = _grown(was, now, growths, at)
            if grown is None:
                return at
            end = grown
    return None


def _grown(was: bytes, now: bytes, growths: Collection[int], at: int) -> int | None:
    """The end of a word that holds the byte at `at`, and has grown; if cut off, so have its lower bytes."""
    for size in _WORDS if growths else ():
        for place in range(max(0, at - size + 1), at + 1):
            end = min(place + size, len(was))
            old, new = (int.from_bytes(each[place:end], "little") for each in (was, now))
            if any((new - old - by) % (1 << 8 * (end - place)) == 0 for by in growths):
                return end
    return None
