"""An image that its loader has put elsewhere than it is linked: there lies what is to be proved of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bootbuild.formats.symbols import LazySymbols
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.span import Span

if TYPE_CHECKING:
    from bootbuild.boot.run import Subject

_M64 = (1 << 64) - 1
_WORDS = (8, 4)  #: bytes of what may hold an address
_CHANGED = re.compile(rb"[^\0]")
_STEP = 1 << 20  #: bytes of memory looked at in one piece
_Read = Callable[[int, int], bytes]


def where_it_lies(subject: Subject, by: int) -> Subject:
    """What is to be proved, of the image moved by so many bytes.

    Physical addresses move. Linked ones do where they are the same; a kernel that is linked elsewhere maps
    itself there, wherever it is loaded.
    """
    if not by:
        return subject
    startup, goal = subject.startup, subject.goal
    symbols = subject.symbols
    if startup.vaddr == startup.paddr:
        if isinstance(symbols, LazySymbols):
            symbols = symbols.moved(by)
        else:
            symbols = {name: address + by for name, address in symbols.items()}
    return replace(
        subject,
        image=_image(subject.image, by),
        startup=_startup(startup, by),
        goal=None if goal is None else _startup(goal, by),
        stub=None if subject.stub is None else Span(subject.stub.start + by, subject.stub.size),
        symbols=symbols,
    )


def _startup(startup: Startup, by: int) -> Startup:
    return replace(
        startup,
        vaddr=startup.vaddr + by if startup.vaddr == startup.paddr else startup.vaddr,
        paddr=startup.paddr + by,
        load_offset=startup.load_offset + by & _M64,
    )


def _image(image: ElfImage, by: int) -> ElfImage:
    segments = (
        replace(s, vaddr=s.vaddr + by if s.vaddr == s.paddr else s.vaddr, paddr=s.paddr + by)
        for s in image.segments
    )
    return replace(image, segments=tuple(segments), symbols={})


def first_change(expected: _Read, found: _Read, size: int, by: int = 0) -> int | None:
    """The first of `size` bytes that is not as expected; a word that has grown by `by` is.

    Both are asked for bytes by offset and size.
    """
    most = max(_WORDS)
    for start in range(0, size, _STEP):
        stop = min(start + _STEP, size)
        low, high = max(start - most, 0), min(stop + most, size)
        was, now = expected(low, high - low), found(low, high - low)
        if was != now:
            changes = (at for at in _differences(was, now) if start <= low + at < stop)
            at = _first_not_grown(was, now, by, changes)
            if at is not None:
                return low + at
    return None


def _differences(was: bytes, now: bytes) -> Iterator[int]:
    both = int.from_bytes(was, "little") ^ int.from_bytes(now, "little")
    return (match.start() for match in _CHANGED.finditer(both.to_bytes(len(was), "little")))


def _first_not_grown(was: bytes, now: bytes, by: int, changes: Iterator[int]) -> int | None:
    end = 0  # of the last word that has grown
    for at in changes:
        if at >= end:
            grown = _grown(was, now, by, at)
            if grown is None:
                return at
            end = grown
    return None


def _grown(was: bytes, now: bytes, by: int, at: int) -> int | None:
    """The end of a word that holds the byte at `at`, and has grown by `by`."""
    for size in _WORDS if by else ():
        for place in range(max(0, at - size + 1), min(at, len(was) - size) + 1):
            old, new = (int.from_bytes(each[place : place + size], "little") for each in (was, now))
            if (new - old - by) % (1 << 8 * size) == 0:
                return place + size
    return None
