"""The LZ4 decoder of a bzImage's stub, compiled for this machine, against the lz4 library."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest
from lz4.block import LZ4BlockError, compress, decompress

MAGIC = struct.pack("<I", 0x184C2102)
SOURCE = """
#include "lz4.h"
uint32_t undo(const uint8_t *from, uint32_t size, uint8_t *to, uint32_t room)
{
    return lz4_legacy(from, size, to, room);
}
"""

Undo = Callable[[bytes, int], bytes | None]


@pytest.fixture(scope="module")
def undo(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Undo:
    """The packed data undone, None where the stub would stop."""
    folder = tmp_path_factory.mktemp("lz4")
    (folder / "undo.c").write_text(SOURCE)
    stubs = resources.files("bootbuild_baremetal") / "stubs"
    library = folder / "undo.so"
    command: list[str | Path] = [
        gcc,
        "-O1",
        "-shared",
        "-fPIC",
        "-I",
        Path(str(stubs)),
        "-o",
        library,
        folder / "undo.c",
    ]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).undo
    function.restype = ctypes.c_uint32

    def run(packed: bytes, room: int) -> bytes | None:
        guard = b"\xa5" * 64
        out = ctypes.create_string_buffer(bytes(room) + guard, room + len(guard))
        size = function(packed, len(packed), out, room)
        assert out.raw[room:] == guard, "it wrote behind its room"
        return out.raw[:room] if size == room else None

    return run


def framed(*blocks: bytes, size: int) -> bytes:
    body = b"".join(block if block == MAGIC else len(block).to_bytes(4, "little") + block for block in blocks)
    return MAGIC + body + size.to_bytes(4, "little")


def samples() -> Iterator[bytes]:
    """What compresses in every way: runs of any length, far and near repeats, noise."""
    source = random.Random(20261126)
    yield b"x"
    yield b"x" * 100000
    for length in (*range(1, 40), 255, 270, 65535, 65550, 200000):
        text = bytearray()
        while len(text) < length:
            kind = source.randrange(3)
            if kind == 0 or not text:
                text += source.randbytes(source.randrange(1, 300))
            elif kind == 1:
                text += bytes([source.randrange(256)]) * source.randrange(1, 600)
            else:
                back = source.randrange(1, min(len(text), 65535) + 1)
                start = len(text) - back
                text += text[start : start + source.randrange(1, back + 1)]
        yield bytes(text[:length])


@pytest.mark.parametrize("mode", ["default", "fast", "high_compression"])
def test_what_the_library_packs_it_undoes(undo: Undo, mode: str) -> None:
    for data in samples():
        packed = framed(compress(data, mode=mode, store_size=False), size=len(data))
        assert undo(packed, len(data)) == data


def test_frames_and_blocks_follow_each_other(undo: Undo) -> None:
    parts = [data for data in samples() if len(data) < 300][:20]
    blocks = [compress(part, store_size=False) for part in parts]
    packed = framed(*blocks[:9], MAGIC, *blocks[9:], size=sum(map(len, parts)))
    assert undo(packed, sum(map(len, parts))) == b"".join(parts)


def test_damage_is_refused_where_the_library_refuses_it(undo: Undo) -> None:
    """Each bit of a packed text alone: the two say the same, and nothing is written outside."""
    data = bytes(range(64)) + b"a run:" + b"y" * 300 + bytes(range(64))
    block = compress(data, store_size=False)
    refusals = 0
    for bit in range(8 * len(block)):
        damaged = bytearray(block)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            expected = decompress(bytes(damaged), uncompressed_size=len(data))
            expected = expected if len(expected) == len(data) else None
        except LZ4BlockError:
            expected = None
        found = undo(framed(bytes(damaged), size=len(data)), len(data))
        if b"\0\0\xff" in damaged:  # a match at distance 0, which is invalid, and which the library lets pass
            assert found is None
        # The last five bytes are literals (lz4_Block_format.md): the library insists on what is for encoders.
        elif expected is not None or found is None:
            assert found == expected, f"bit {bit}"
        refusals += found is None
    assert refusals > 50


@pytest.mark.parametrize("literals", [34, 35, 36])
def test_a_short_match_behind_many_literals_stays_in_its_room(undo: Undo, literals: int) -> None:
    """Copies of eight bytes at once are for where there is room; this one has a match of four behind it."""
    block = bytes([0xF0, literals - 15]) + b"n" * literals + b"\4\0" + bytes(40)
    assert undo(framed(block, size=36), 36) is None


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        MAGIC,
        MAGIC + struct.pack("<I", 3),
        b"\2\x21\x4c\x19" + struct.pack("<I", 0),
        framed(b"\x30abc", size=4),
        framed(b"\x30abc", size=3)[:-5] + struct.pack("<I", 3),
        MAGIC + b"\xff\xff\xff\xff" + b"\x30abc" + struct.pack("<I", 3),
        framed(b"\x30abc", size=3)[:-4] + b"\0\0" + struct.pack("<I", 3),
        framed(b"", size=3),
        framed(b"\xf0" + b"\xff" * 40, size=3),
        framed(b"\x10a\0\0\x20bc", size=3),
        framed(b"\x10a\2\0\x20bc", size=3),
        framed(b"\x30abc\1", size=3),
    ],
    ids=[
        "nothing",
        "a magic number alone",
        "no block",
        "another magic number",
        "another size",
        "cut off",
        "a block that runs over the end",
        "bytes behind the last block",
        "an empty block",
        "a length without end",
        "a match at no distance",
        "a match before the start",
        "half a distance",
    ],
)
def test_nonsense_is_refused(undo: Undo, packed: bytes) -> None:
    assert undo(packed, 3) is None
