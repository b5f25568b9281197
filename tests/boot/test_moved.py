"""What is proved of an image that lies elsewhere than it is linked: where, and which bytes may differ."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bootbuild.boot.moved import as_linked, first_change, where_it_lies
from bootbuild.model.payload import Segment, Startup
from bootbuild.model.span import Span
from bootbuild.model.trace import Placed
from tiny_guest import BASE, ENTRY, guest, subject

MiB = 1 << 20


def change(was: bytes, now: bytes, physical: int, virtual: int = 0) -> int | None:
    return first_change(
        lambda at, size: was[at : at + size],
        lambda at, size: now[at : at + size],
        len(was),
        Placed(physical, virtual),
    )


def grown(data: bytes, at: int, code: str, by: int) -> bytes:
    """`data` with the word at `at` greater by `by`."""
    (word,) = struct.unpack_from(code, data, at)
    out = bytearray(data)
    struct.pack_into(code, out, at, word + by & (1 << 8 * struct.calcsize(code)) - 1)
    return bytes(out)


DATA = bytes(range(7, 247)) * (5 * MiB // 480)


@pytest.mark.parametrize("by", [2 * MiB, -2 * MiB, 0x7654000, -0x7654000])
@pytest.mark.parametrize("code", ["<I", "<Q"])
@pytest.mark.parametrize("at", [0, 1, 0x1235, MiB - 3, MiB, len(DATA) - 8])
def test_a_word_that_has_grown_by_the_way_is_no_change(by: int, code: str, at: int) -> None:
    now = grown(DATA, at, code, by)
    assert now != DATA
    assert change(DATA, now, by) is None
    assert change(DATA, now, 0) in range(at, at + 8)
    assert change(DATA, now, by + 4096) in range(at, at + 8)
    assert change(DATA, grown(now, at, code, by), by) in range(at, at + 8)


@pytest.mark.parametrize("by", [2 * MiB, -2 * MiB])
@pytest.mark.parametrize("second", ["<I", "<Q"])
@pytest.mark.parametrize("apart", range(4, 12))
def test_words_that_lie_close_together(apart: int, second: str, by: int) -> None:
    now = grown(grown(DATA, 40, "<I", by), 40 + apart, second, by)
    assert change(DATA, now, by) is None


@pytest.mark.parametrize("at", [0, MiB - 1, MiB, len(DATA) - 1])
def test_another_byte_is_a_change(at: int) -> None:
    now = bytearray(grown(DATA, 0x2000, "<Q", 2 * MiB))
    now[at] ^= 1
    assert change(DATA, bytes(now), 2 * MiB) == at
    assert change(DATA, DATA, 2 * MiB) is None


@pytest.mark.parametrize("virtual", [0x1F000000, -0x1F000000])
def test_a_word_grows_as_its_kernel_is_mapped_or_shrinks(virtual: int) -> None:
    for by in (virtual, -virtual):
        now = grown(DATA, 0x1235, "<I", by)
        assert change(DATA, now, 0, virtual) is None
        assert change(DATA, now, virtual + 2 * MiB, virtual) is None
        assert change(DATA, now, 0, virtual + 4096) in range(0x1235, 0x1239)


@pytest.mark.parametrize("left", range(1, 8))
def test_of_a_word_that_is_cut_off_the_lower_bytes_have_grown(left: int) -> None:
    by = 0x1234567
    whole = DATA[:99]
    now = grown(whole, 91, "<Q", by)
    was, now = whole[: 91 + left], now[: 91 + left]
    assert was != now
    assert change(was, now, by) is None
    other = bytes((*now[:-1], now[-1] ^ 1))
    assert change(was, other, by) in range(91, 91 + left)


def test_what_is_linked_where_it_is_loaded_moves_with_it() -> None:
    given = replace(
        subject(guest()),
        startup=Startup("here", ENTRY, ENTRY, 32, load_offset=MiB),
        goal=Startup("there", ENTRY + 8, ENTRY + 8, 32),
        stub=Span(0x400000, 0x1000),
        symbols={"a": ENTRY},
    )
    found = where_it_lies(given, Placed(-0x10000, 0))
    assert found.startup == Startup("here", ENTRY - 0x10000, ENTRY - 0x10000, 32, load_offset=MiB - 0x10000)
    assert found.goal == Startup("there", ENTRY - 0xFFF8, ENTRY - 0xFFF8, 32, load_offset=(1 << 64) - 0x10000)
    assert found.stub == Span(0x3F0000, 0x1000)
    assert found.symbols["a"] == ENTRY - 0x10000
    assert [s.paddr for s in found.image.loads] == [s.paddr - 0x10000 for s in given.image.loads]
    assert found.image.content is given.image.content
    assert where_it_lies(given, Placed(0, 0)) is given


@pytest.mark.parametrize("virtual", [0, 6 * MiB])
def test_a_kernel_of_the_upper_half_is_where_it_maps_itself(virtual: int) -> None:
    high = 0xFFFFFFFF80000000 + BASE
    low = subject(guest())
    (segment,) = low.image.loads
    own = Segment(1, 6, 0, 0, segment.paddr + MiB, 16, 16, 4096)  # linked at 0, as a CPU's own data
    mapped = replace(segment, vaddr=high - BASE + segment.paddr)
    image = replace(low.image, segments=(segment, mapped, own))
    given = replace(low, image=image, startup=Startup("here", high, BASE, 64), symbols={"a": high})
    found = where_it_lies(given, Placed(2 * MiB, virtual))
    assert found.startup == Startup("here", high + virtual, BASE + 2 * MiB, 64, load_offset=2 * MiB)
    assert found.symbols == found.image.symbols == {"a": high + virtual}
    at = segment.paddr + 2 * MiB
    there = [(s.vaddr, s.paddr) for s in found.image.loads]
    assert there == [(at, at), (mapped.vaddr + virtual, at), (0, at + MiB)]


def test_addresses_lead_back_to_where_it_is_linked() -> None:
    given = subject(guest())
    (segment,) = given.image.loads
    high = replace(segment, vaddr=0xFFFFFFFF80000000)
    moved = replace(high, vaddr=high.vaddr + 6 * MiB, paddr=high.paddr + MiB)
    home = replace(given, image=replace(given.image, segments=(high,)), stub=Span(0x40000000, 0x1000))
    there = replace(given, image=replace(given.image, segments=(moved,)), stub=Span(0x40000000 + MiB, 0x1000))
    back = as_linked(home, there)
    assert [back(0x40000000 + MiB + at) for at in (0, 0xFFF, 0x1000)] == [0x40000000, 0x40000FFF, None]
    assert back(high.paddr + MiB) == high.paddr
    assert back(high.vaddr + 6 * MiB + segment.memsz - 1) == high.vaddr + segment.memsz - 1
    assert back(high.vaddr + 6 * MiB + segment.memsz) is None
    assert as_linked(home, home)(high.vaddr + 7) == high.vaddr + 7
