"""Ranges of bytes: a part of a content by reference, and where two of them differ."""

from __future__ import annotations

import pytest

from bootbuild.model.content import (
    CHUNK,
    DeferredContent,
    MemoryContent,
    Piece,
    SplicedContent,
    first_difference,
    joined,
    part_of,
)

SIZE = 2 * CHUNK + 5  #: two whole pieces and a part of one
OLD = bytes(range(251)) * (SIZE // 251 + 1)


@pytest.mark.parametrize("at", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, SIZE - 1])
def test_the_first_of_them_is_told(at: int) -> None:
    new = bytearray(OLD)
    for place in {at, SIZE - 1}:
        new[place] ^= 0x80
    assert first_difference(MemoryContent(OLD), 0, MemoryContent(new), 0, SIZE) == at


def test_it_is_counted_from_where_the_ranges_begin() -> None:
    new = b"in front" + OLD[100:]
    assert first_difference(MemoryContent(OLD), 100, MemoryContent(new), 8, SIZE - 100) is None
    assert first_difference(MemoryContent(OLD), 101, MemoryContent(new), 8, SIZE - 101) == 0
    changed = bytearray(new)
    changed[8 + CHUNK] ^= 1
    assert first_difference(MemoryContent(OLD), 100, MemoryContent(changed), 8, SIZE - 100) == CHUNK


def test_what_lies_outside_the_ranges_does_not_count() -> None:
    assert first_difference(MemoryContent(OLD[:10] + b"x"), 0, MemoryContent(OLD), 0, 10) is None
    assert first_difference(MemoryContent(b""), 0, MemoryContent(OLD), 0, 0) is None
    behind = bytearray(OLD)
    behind[SIZE] ^= 1
    assert first_difference(MemoryContent(OLD), 0, MemoryContent(behind), 0, SIZE) is None


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, SIZE - 1])
def test_a_range_that_ends_differs_there(size: int) -> None:
    whole, cut = MemoryContent(OLD), MemoryContent(OLD[:size])
    assert first_difference(whole, 0, cut, 0, SIZE) == size
    assert first_difference(cut, 0, whole, 0, SIZE) == size


@pytest.mark.parametrize(
    ("offset", "size", "bytes_"),
    [
        (0, 5, b"01234"),
        (3, 4, b"3456"),
        (8, 9, b"89"),
        (10, 1, b""),
        (11, 1 << 40, b""),
        (3, 0, b""),
    ],
)
def test_a_part_ends_where_the_whole_does(offset: int, size: int, bytes_: bytes) -> None:
    part = part_of(MemoryContent(b"0123456789"), offset, size)
    assert (part.size, part.read(0, 100)) == (len(bytes_), bytes_)
    assert part.read(1, 2) == bytes_[1:3]


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("size", range(9))
def test_parts_are_read_as_one(offset: int, size: int) -> None:
    content = joined([MemoryContent(part) for part in (b"ab", b"", b"cde", bytearray(b"f"), b"")])
    assert content.size == 6
    assert content.read(offset, size) == b"abcdef"[offset : offset + size]
    buffer = bytearray(size)
    assert content.read_into(offset, memoryview(buffer)) == len(b"abcdef"[offset : offset + size])
    assert buffer == b"abcdef"[offset : offset + size].ljust(size, b"\0")


def test_deferred_bytes_are_made_once_and_when_they_are_read() -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"cde"

    content = joined([MemoryContent(b"ab"), DeferredContent(3, make)])
    assert (content.size, content.read(0, 2), made) == (5, b"ab", [])
    buffer = bytearray(2)
    assert content.read(1, 9) == b"bcde"
    assert content.read_into(3, memoryview(buffer)) == 2
    assert buffer == b"de"
    assert made == [1]


SOURCE = MemoryContent(bytes(range(1, 21)))


@pytest.mark.parametrize("offset", range(10))
@pytest.mark.parametrize("size", range(12))
def test_pieces_are_put_together_byte_for_byte(offset: int, size: int) -> None:
    """Their sources go on behind them, the later win; between them, and where a source ends, are zeros."""
    pieces = [Piece(1, SOURCE, 4, 3), Piece(3, SOURCE, 0, 2), Piece(6, SOURCE, 9, 2), Piece(8, SOURCE, 19, 2)]
    whole = bytes((0, 5, 6, 1, 2, 0, 10, 11, 20, 0))
    content = SplicedContent(len(whole), pieces)
    assert content.read(offset, size) == whole[offset : offset + size]
    buffer = bytearray(b"\xff" * size)
    assert content.read_into(offset, memoryview(buffer)) == len(whole[offset : offset + size])
    assert buffer == whole[offset : offset + size].ljust(size, b"\xff")
