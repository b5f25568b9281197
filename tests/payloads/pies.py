"""Static PIEs of a few bytes, and kernels opened as a recipe would have them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import InputError
from bootbuild.formats.payload import Fit, Opened, open_payload

MIB = MILLION = 1 << 20
HIGH = 0xC0000000
# Tags of PT_DYNAMIC: gABI chapter 5
RELA, RELASZ, RELAENT, REL, RELSZ, RELENT, NEEDED = 7, 8, 9, 17, 18, 19, 1
RELR, RELRSZ, RELRENT = 36, 35, 37
JMPREL, PLTRELSZ = 23, 2

Table = Mapping[int, int]


def pie(
    bits: int = 64,
    *,
    base: int = 0,
    relocations: bytes = b"",
    dynamic: Table | None = None,
    filesz: int | None = None,
    tables: int = 1,
) -> bytes:
    """An ET_DYN of one PT_LOAD at `base`: words at +0x100, relocations at +0x200, PT_DYNAMIC at +0x400."""
    word = "<I" if bits == 32 else "<Q"
    pair = "<II" if bits == 32 else "<QQ"
    if dynamic is None:
        tag, size, entry = (REL, RELSZ, RELENT) if bits == 32 else (RELA, RELASZ, RELAENT)
        dynamic = {tag: base + 0x200, size: len(relocations), entry: 8 if bits == 32 else 24}
    body = bytearray(0x600)
    for index in range(8):
        struct.pack_into(word, body, 0x100 + index * bits // 8, 0x110 + index)
    body[0x200 : 0x200 + len(relocations)] = relocations
    packed = b"".join(struct.pack(pair, *item) for item in [*dynamic.items(), (0, 0)])
    body[0x400 : 0x400 + len(packed)] = packed
    ehsize, phsize = {32: (52, 32), 64: (64, 56)}[bits]
    headers: list[tuple[int, ...]] = [
        (1, 7, 0x1000, base, base, len(body) if filesz is None else filesz, 0x2000, 0x1000)
    ]
    headers += [(2, 6, 0x1400, base + 0x400, base + 0x400, len(packed), len(packed), 8)] * tables
    out = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    layout = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}[bits]
    out += struct.pack(
        layout, 3, {32: 3, 64: 62}[bits], 1, base + 0x10, ehsize, 0, 0, ehsize, phsize, len(headers), 0, 0, 0
    )
    for type_, flags, *rest, align in headers:
        out += (
            struct.pack("<IIQQQQQQ", type_, flags, *rest, align)
            if bits == 64
            else struct.pack("<IIIIIIII", type_, *rest, flags, align)
        )
    return out.ljust(0x1000, b"\0") + body


def rela(*entries: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<QQq", *entry) for entry in entries)


def changed(data: bytes, at: int, value: int) -> bytes:
    """`data` with another 32-bit number."""
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def overlapping(vaddr: int) -> bytes:
    """A PIE with a second PT_LOAD, of eight bytes of the first, at another physical address."""
    data = bytearray(pie())
    struct.pack_into("<IIQQQQQQ", data, 64 + 56, 1, 6, 0x1400, vaddr, 0x4000, 8, 0x1000, 8)
    return bytes(data)


def xen_entry(value: int, kind: int = 18, high: int = 0) -> bytes:
    """A PIE at 1 MiB whose second header, in place of PT_DYNAMIC, leads to a Xen note of `value`.

    It is linked `high` above where it is loaded.
    """
    data = bytearray(pie(32, base=MIB))
    struct.pack_into("<IIIIIIII", data, 52 + 32, 4, 0x1500, MIB + 0x500, MIB + 0x500, 20, 20, 4, 4)
    struct.pack_into("<III4sI", data, 0x1500, 4, 4, kind, b"Xen\0", value)
    struct.pack_into("<I", data, 24, high + MIB + 0x10)
    struct.pack_into("<I", data, 52 + 8, high + MIB)
    return bytes(data)


def in_a_section(data: bytes) -> bytes:
    """The same, but the note stands in an SHT_NOTE section, and no PT_NOTE leads to it."""
    out = bytearray(data)
    struct.pack_into("<I", out, 52 + 32, 0)
    struct.pack_into("<I", out, 32, len(out))
    struct.pack_into("<HHH", out, 46, 40, 2, 0)
    return bytes(out) + bytes(40) + struct.pack("<10I", 0, 7, 0, 0, 0x1500, 20, 0, 0, 4, 0)


def opened(tmp_path: Path, data: bytes, **fit: Any) -> Opened:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    return open_payload(path, Fit(**fit))


def words(kernel: Opened, bits: int = 64) -> Sequence[int]:
    """The eight words of `pie`, as a loader puts them into memory."""
    (load,) = kernel.elf.loads
    data = kernel.elf.content.read(load.offset + 0x100, bits)
    return struct.unpack("<8I" if bits == 32 else "<8Q", data)


def assert_refused(rule: str, said: str, call: Callable[[], object]) -> None:
    with pytest.raises(InputError) as caught:
        call()
    (problem,) = caught.value.problems
    assert problem.rule.id == rule
    assert said in problem.message


def relr(bitmaps: int, words: int) -> bytes:
    """A PIE with an address and that many full bitmaps, of a segment of so many words behind the table."""
    table = struct.pack("<Q", 0x800 + 8 * (bitmaps + 1)) + b"\xff" * 8 * bitmaps
    data = bytearray(pie(dynamic={RELR: 0x800, RELRSZ: len(table), RELRENT: 8})).ljust(0x1800, b"\0") + table
    size = len(data) - 0x1000 + 8 * words
    struct.pack_into("<QQ", data, 64 + 32, size, size)
    return bytes(data) + bytes(8 * words)
