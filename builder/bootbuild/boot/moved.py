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
    from bootbuild.machine import Machine

_M64 = (1 << 64) - 1
_WORDS = (8, 4)  #: bytes of what may hold an address
_CHANGED = re.compile(rb"[^\0]")
_STEP = 1 << 20  #: bytes of memory looked at in one piece
_Read = Callable[[int, int], bytes]


def where_it_lies(subject: Subject, placed: Placed) -> Subject:
    """What is to be proved, of an image that its loader has put elsewhere, or that has put itself there.

    Physical addresses move, and with them linked ones that are the same. Other linked ones move as the kernel
    has mapped itself if they are as far from the physical ones as its startup path is; else they stay, as
    Linux's own data of each CPU do, linked at 0. Symbols move as the startup path does.
    """
    if placed == LINKED:
        return subject
    startup, stub, symbols = subject.startup, subject.stub, subject.symbols
    mapped = startup.vaddr - startup.paddr

    def moved(vaddr: int, paddr: int) -> int:
        if vaddr == paddr:
            return vaddr + placed.physical
        return vaddr + placed.virtual if vaddr - paddr == mapped else vaddr

    def at(place: Startup) -> Startup:
        offset = place.load_offset + placed.physical & _M64
        vaddr = moved(place.vaddr, place.paddr)
        return replace(place, vaddr=vaddr, paddr=place.paddr + placed.physical, load_offset=offset)

    by = moved(startup.vaddr, startup.paddr) - startup.vaddr
    if by and isinstance(symbols, LazySymbols):
        symbols = symbols.moved(by)
    elif by:
        symbols = {name: address + by for name, address in symbols.items()}
    segments = (
        replace(s, vaddr=moved(s.vaddr, s.paddr), paddr=s.paddr + placed.physical)
        for s in subject.image.segments
    )
    return replace(
        subject,
        image=replace(subject.image, segments=tuple(segments), symbols=symbols),
        startup=at(startup),
        goal=None if subject.goal is None else at(subject.goal),
        stub=None if stub is None else Span(stub.start + placed.physical, stub.size),
        symbols=symbols,
        placed=placed,
    )


class Arrival:
    """Where an image is that a program in it has put elsewhere: seen when its startup path is reached.

    `grain`: it lies a multiple of so many bytes from where it is linked; 0: nobody moves it.
    """

    def __init__(self, subject: Subject, grain: int, machine: Machine) -> None:
        self.placed = LINKED
        self._startup, self._code = subject.startup, subject.code
        self._grain = grain
        self._machine = machine

    def __call__(self, address: int, _block: bytes) -> bool:
        """Whether a block that is about to run is that: by its place, and the payload's bytes there."""
        by, code = address - self._startup.paddr, self._code
        if not (self._grain and code and by) or by % self._grain:
            return False
        try:
            found = self._machine.read_physical(address, len(code))
        except LookupError:
            return False
        placed = Placed(by, 0)
        if first_change(_reader(code), _reader(found), len(code), placed) is not None:
            return False
        self.placed = placed
        return True


def _reader(data: bytes) -> _Read:
    return lambda at, size: data[at : at + size]


def as_linked(home: Subject, there: Subject) -> Callable[[int], int | None]:
    """What leads an address of an image back from where it lies to where it is linked; any other to None.

    A kernel puts itself at random where it is not told otherwise. The time that has passed, and what it was
    handed, are all that it has for that.
    """
    spans = [
        pair
        for s, linked in zip(there.image.loads, home.image.loads, strict=True)
        for pair in ((s.physical, s.paddr - linked.paddr), (s.virtual, s.vaddr - linked.vaddr))
    ]
    if home.stub is not None and there.stub is not None:
        spans.append((there.stub, there.stub.start - home.stub.start))

    def back(address: int) -> int | None:
        return next((address - by for span, by in spans if address in span), None)

    return back


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
