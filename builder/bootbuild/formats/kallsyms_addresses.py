"""The addresses of kallsyms, in whichever of the forms that Linux has had makes sense of them."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import le
from typing import NamedTuple

from bootbuild.model.payload import PF_X, Segment

HEAD = 64 << 10  #: bytes at the start of a code segment that have `_text` or `_stext`


class Tables(NamedTuple):
    """What is known of the tables before their addresses; places count from the start of `data`."""

    data: bytes  #: the part of the segment that has them
    vaddr: int  #: of its first byte
    word: int  #: bytes of an unsigned long
    num_syms: int  #: where kallsyms_num_syms stands
    index_end: int  #: where kallsyms_token_index ends

    def numbers(self, form: str, count: int, at: int) -> tuple[int, ...]:
        """`count` little-endian numbers at `at`; none where they would lie outside."""
        shape = struct.Struct(f"<{count}{form}")
        if at < 0 or at + shape.size > len(self.data):
            return ()
        return shape.unpack_from(self.data, at)

    def words(self, count: int, at: int) -> tuple[int, ...]:
        """The same of unsigned longs."""
        return self.numbers("Q" if self.word == 8 else "I", count, at)


def addresses(tables: Tables, kinds: bytes, loads: Sequence[Segment]) -> Sequence[int]:
    """The virtual address of each symbol; none if no form gives functions where code is.

    `kinds`: the type of each symbol, a letter of nm(1). `loads`: the PT_LOAD segments.
    """
    for candidate in _candidates(tables, len(kinds)):
        if candidate and not candidate[-1] >> 8 * tables.word and _plausible(candidate, kinds, loads):
            return candidate
    return ()


def _candidates(tables: Tables, count: int) -> Iterator[Sequence[int]]:
    """Every form at both places: before num_syms (until 6.3), and behind the token index (since 6.4)."""
    align = tables.word
    base = tables.num_syms - tables.word
    behind = _up(tables.index_end, align)
    yield from _based(tables, count, base - _up(4 * count, align), base)
    yield tables.words(count, tables.num_syms - tables.word * count)
    yield from _based(tables, count, behind, behind + _up(4 * count, align))
    yield tables.words(count, behind)  # also, since 7.0, of a 32-bit kernel that is not relocatable
    yield _placed(tables, count, _up(tables.index_end, 4))


def _based(tables: Tables, count: int, at: int, base_at: int) -> Iterator[Sequence[int]]:
    """CONFIG_KALLSYMS_BASE_RELATIVE (4.6 to 6.19): offsets of 32 bits from kallsyms_relative_base."""
    base = tables.words(1, base_at)
    if not base:
        return
    # CONFIG_KALLSYMS_ABSOLUTE_PERCPU (until 6.14): the negative ones count from base - 1, the others from 0.
    yield [base[0] - 1 - n if n < 0 else n for n in tables.numbers("i", count, at)]
    yield [base[0] + n for n in tables.numbers("I", count, at)]


def _placed(tables: Tables, count: int, at: int) -> Sequence[int]:
    """Since 7.0: signed offsets of 32 bits, each from where it stands itself."""
    first, limit = tables.vaddr + at, 1 << 8 * tables.word
    return [(first + 4 * i + n) % limit for i, n in enumerate(tables.numbers("i", count, at))]


def _plausible(found: Sequence[int], kinds: bytes, loads: Sequence[Segment]) -> bool:
    """Whether they ascend, as Linux sorts them, and functions are where code is.

    That is: the first at the start of an executable segment, nine in ten in any; .init.text may lie with
    the data.
    """
    if not all(map(le, found, found[1:])):
        return False
    code = [address for address, kind in zip(found, kinds, strict=True) if kind in b"Tt"]
    if not any(code and s.flags & PF_X and 0 <= code[0] - s.vaddr < HEAD for s in loads):
        return False
    inside = sum(bisect_right(code, s.virtual.end) - bisect_left(code, s.vaddr) for s in loads)
    return inside >= len(code) * 9 // 10


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
