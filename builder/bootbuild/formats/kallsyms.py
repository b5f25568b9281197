"""The symbols that a stripped Linux carries for itself: its kallsyms tables, found by their shape.

No pointer leads to them. What can be known is the table of tokens, which has the digits as tokens of their
own, and that the linker put the tables beside each other in one of these orders (scripts/kallsyms.c):

    2.6.10  addresses or (4.6) offsets, relative_base; num_syms, names, markers, token_table, token_index
    6.2     the same, with seqs_of_names behind the markers
    6.4     num_syms, names, markers, token_table, token_index; addresses or offsets, relative_base; seqs
    7.0     the same without relative_base: each offset counts from its own place
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bootbuild.formats.kallsyms_addresses import Tables, addresses
from bootbuild.formats.symbols import (
    ABSOLUTE_TYPES,
    GLOBAL_TYPES,
    MAX_STRINGS,
    MAX_SYMBOLS,
    LazySymbols,
    Symbol,
)
from bootbuild.model.content import Content
from bootbuild.model.payload import PT_LOAD, Segment

KSYM_NAME_LEN = 512  #: bytes of a name with its type; 128 before 6.1 (include/linux/kallsyms.h)
PER_MARKER = 256  #: names from one marker to the next (scripts/kallsyms.c write_src)
SHORTEST, LONGEST = 2 * PER_MARKER, (2 + KSYM_NAME_LEN) * PER_MARKER  #: bytes from one marker to the next
INDEX = struct.Struct("<256H")  #: kallsyms_token_index
DIGITS = b"".join(b"%d\0" % digit for digit in range(10))  #: characters that are used are their own tokens
FIRST = ord("0")  #: the code of the first digit
MAX_TOKENS = 1 << 16  #: bytes of kallsyms_token_table, whose index has 16 bits
ALIGN = 16  #: bytes; no table is aligned to more
PIECE = 256 << 10  #: bytes searched at a time
REACH = (6 << 20, 32 << 20)  #: bytes looked at on either side of the tokens; Debian's kernels need 4 MiB
MAX_STEPS = 8 << 20  #: names and places tried before a file is given up: five seconds at most
STEP = 256  #: bytes read and searched for zeros in the time of one


class KallsymsSymbols(LazySymbols):
    """Name → address of a stripped Linux; empty where there are no tables that hold together.

    Addresses are virtual, as linked. Reading takes memory for a part of the file, at most 64 MiB, and for
    the names.
    """

    origin = "kallsyms"

    def __init__(self, content: Content, segments: Sequence[Segment], bits: int) -> None:
        super().__init__()
        self._content = content
        self._loads = tuple(s for s in segments if s.type == PT_LOAD and s.filesz)
        self._bits = bits

    def symbols(self, wanted: bytes | None) -> Iterator[Symbol]:
        budget = _Budget(MAX_STEPS)
        try:
            for segment in self._loads:
                for place in _digits(self._content, segment):
                    budget.spend(MAX_TOKENS // ALIGN)
                    if _tokens(_window(self._content, segment, place, MAX_TOKENS)) is None:
                        continue
                    for reach in REACH:
                        found = self._symbols_at(segment, place, reach, budget)
                        if found is not None:
                            return found
        except _Spent:
            pass  # a file made to waste time holds no kernel
        return iter(())

    def _symbols_at(
        self, segment: Segment, place: int, reach: int, budget: _Budget
    ) -> Iterator[Symbol] | None:
        """The symbols whose tokens are those around file offset `place`; None if there are no such tables."""
        window = _window(self._content, segment, place, reach)
        budget.spend(len(window.data) // STEP)
        tokens = _tokens(window)
        names = _names(window.data, tokens.start, budget) if tokens is not None else None
        if tokens is None or names is None:
            return None
        lines = _expand(tokens.texts, window.data, names)
        kinds = bytes(text[0] for line in lines for text in line.split(b"\0"))
        tables = Tables(window.data, window.vaddr, self._bits // 8, names.num_syms, tokens.end)
        values = array("Q", addresses(tables, kinds, self._loads)) if kinds else ()
        if not values:
            return None
        texts = (text for line in lines for text in line.split(b"\0"))
        return (
            (text[1:], text[0] in GLOBAL_TYPES, value, text[0] in ABSOLUTE_TYPES)
            for text, value in zip(texts, values, strict=True)
        )


class _Spent(Exception):
    """The budget is spent."""


class _Budget:
    """Steps that all attempts at one file share, so that a hostile one cannot keep us."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _Spent


def _digits(content: Content, segment: Segment) -> Iterator[int]:
    """File offsets in a segment where the tokens of the digits stand."""
    at, end = segment.offset, segment.file.end
    while at < end:
        piece = content.read(at, min(PIECE + len(DIGITS) - 1, end - at))
        found = piece.find(DIGITS)
        while found >= 0:
            yield at + found
            found = piece.find(DIGITS, found + 1)
        at += PIECE


class _Window(NamedTuple):
    """Part of a segment. It begins at an aligned address, so that places in it are aligned as in memory."""

    data: bytes
    vaddr: int  #: of the first byte
    digits: int  #: where the tokens of the digits are; negative if they are cut off


def _window(content: Content, segment: Segment, place: int, reach: int) -> _Window:
    first = max(segment.offset, place - reach)
    first += -(segment.vaddr + first - segment.offset) % ALIGN
    end = min(segment.file.end, place + reach + INDEX.size + ALIGN)
    return _Window(content.read(first, end - first), segment.vaddr + first - segment.offset, place - first)


class _Tokens(NamedTuple):
    """kallsyms_token_table and kallsyms_token_index; places are in the window."""

    texts: list[bytes]  #: 256, by code
    start: int
    end: int  #: of the index


def _tokens(window: _Window) -> _Tokens | None:
    """Tokens and an index that says the same of them, or nothing."""
    data, digits = window.data, window.digits
    if digits < FIRST:
        return None
    places, end = [], digits
    for _ in range(FIRST, 256):
        places.append(end - digits)
        end = data.find(b"\0", end, end + KSYM_NAME_LEN) + 1
        if not end:
            return None
    even = end + end % 2
    for at in range(even, min(even + ALIGN, len(data) - INDEX.size) + 1, 2):
        index = INDEX.unpack_from(data, at)
        start = digits - index[FIRST]
        if start < 0 or [place - index[FIRST] for place in index[FIRST:]] != places:
            continue
        texts = data[start : end - 1].split(b"\0")
        if len(texts) == 256 and _starts(texts) == list(index):
            return _Tokens(texts, start, at + INDEX.size)
    return None


def _starts(texts: Sequence[bytes]) -> list[int]:
    """Where each of these strings starts when a NUL follows each."""
    at, found = 0, []
    for text in texts:
        found.append(at)
        at += len(text) + 1
    return found


class _Names(NamedTuple):
    """kallsyms_num_syms and kallsyms_names; places are in the window."""

    places: array[int]  #: of the codes of each name
    sizes: array[int]  #: how many those are
    num_syms: int  #: where the count stands


def _names(data: bytes, end: int, budget: _Budget) -> _Names | None:
    """The names before `end`, found by the markers between: the offset of each 256th name, first 0."""
    zero = end
    while True:
        zero = data.rfind(bytes(4), 0, zero + 3)
        if zero < 0:
            return None
        budget.spend(16)
        for width, form in ((4, "I"), (8, "Q")):  # unsigned long before 4.20
            most = min((end - zero) // width, MAX_SYMBOLS // PER_MARKER)
            if zero % width == 0 and most > 1:
                markers = _markers(data, zero, form, most, budget)
                found = _names_before(data, zero, markers, budget)
                if found is not None:
                    return found


def _markers(data: bytes, at: int, form: str, most: int, budget: _Budget) -> list[int]:
    """The markers from `at` on, as long as they can be such."""
    first, second = struct.unpack_from(f"<2{form}", data, at)
    if first or not SHORTEST <= second <= LONGEST:
        return []
    budget.spend(most)
    found = [0]
    for value in struct.unpack_from(f"<{most}{form}", data, at)[1:]:
        if not SHORTEST <= value - found[-1] <= LONGEST:
            break
        found.append(value)
    return found


def _names_before(data: bytes, end: int, markers: list[int], budget: _Budget) -> _Names | None:
    """The names up to `end`, where the count in front of them, they and the markers agree.

    More than 256 names are expected, so that there is a marker to agree with.
    """
    # What follows the markers may look like one or two markers more.
    for count in range(len(markers), max(len(markers) - 3, 1), -1):
        last = end - markers[count - 1]
        low = max(0, last - LONGEST - ALIGN)
        low += -low % 4
        words = (last - low) // 4
        if words <= 0:
            continue
        budget.spend(words)
        least, most = PER_MARKER * (count - 1), PER_MARKER * count
        for index, number in enumerate(struct.unpack_from(f"<{words}I", data, low)):
            if least < number <= most:
                num_syms = low + 4 * index
                for start in (num_syms + 8, num_syms + 4):  # behind padding, or at once
                    walked = _walk(data, start, end, number, markers, budget)
                    if walked is not None:
                        return _Names(*walked, num_syms)
    return None


def _walk(
    data: bytes, start: int, end: int, number: int, markers: list[int], budget: _Budget
) -> tuple[array[int], array[int]] | None:
    """Where the codes of `number` names are from `start` on, if they lead along the markers to `end`."""
    at, places, sizes = start, array("L"), array("H")
    for first in range(0, number, PER_MARKER):
        if at - start != markers[first // PER_MARKER]:
            return None
        budget.spend(PER_MARKER)
        for _ in range(min(PER_MARKER, number - first)):
            if at + 1 >= end:
                return None
            size = data[at]
            at += 1
            if size & 0x80:  # two bytes of ULEB128 since 6.1
                size = size & 0x7F | data[at] << 7
                at += 1
            if not 0 < size <= KSYM_NAME_LEN:
                return None
            places.append(at)
            sizes.append(size)
            at += size
    return (places, sizes) if 0 <= end - at < ALIGN and not any(data[at:end]) else None


def _expand(tokens: list[bytes], data: bytes, names: _Names) -> list[bytes]:
    """Every name with its type before it, 256 to a string, NUL between; none if too long for Linux."""
    token, lines, left = tokens.__getitem__, [], MAX_STRINGS
    for first in range(0, len(names.places), PER_MARKER):
        some = slice(first, first + PER_MARKER)
        texts = [
            b"".join(map(token, data[at : at + size]))
            for at, size in zip(names.places[some], names.sizes[some], strict=True)
        ]
        lines.append(b"\0".join(texts))
        left -= len(lines[-1])
        if left < 0 or not all(1 < len(text) <= KSYM_NAME_LEN for text in texts):
            return []
    return lines
