"""Identity page tables of some memory and no more: what is not named is not mapped."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from bootbuild.model.machine import Load
from bootbuild.model.span import Span
from bootbuild.platform.loading import put

PAGE, LARGE = 4096, 2 << 20
# Intel SDM volume 3 §4.5: present, writable, accessed; dirty; page size
_TABLE, _LEAF, _LEAF_LARGE = 0x23, 0x63, 0xE3
_SHIFTS = (39, 30, 21, 12)  #: of the index into a table of each level, the top one first


def identity_map(at: int, spans: Iterable[Span], *, page: int = LARGE) -> Load:
    """Tables at physical `at`, the top one first, that map each page of `spans` to itself.

    `page`: 2 MiB or 4 KiB; each span is widened to whole pages.
    """
    depth = _SHIFTS.index(page.bit_length() - 1)
    tables: list[dict[int, int]] = [{}]
    known: dict[tuple[int, ...], int] = {(): 0}  # the table that is reached by these indices

    def table(path: tuple[int, ...]) -> int:
        if path not in known:
            parent = table(path[:-1])
            known[path] = len(tables)
            tables[parent][path[-1]] = at + PAGE * len(tables) | _TABLE
            tables.append({})
        return known[path]

    for span in spans:
        for address in range(span.start - span.start % page, span.end, page):
            *path, last = (address >> shift & 511 for shift in _SHIFTS[: depth + 1])
            tables[table(tuple(path))][last] = address | (_LEAF_LARGE if page == LARGE else _LEAF)
    return put(at, b"".join(_packed(entries) for entries in tables))


def _packed(entries: dict[int, int]) -> bytes:
    return struct.pack("<512Q", *(entries.get(index, 0) for index in range(512)))
