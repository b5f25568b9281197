"""The headers of a PE32+ file as UEFI's loaders, shim and signers want them (Microsoft's PE format)."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence

from bootbuild.model.contribution import Layout, PlacedSection
from bootbuild.model.span import Span, align_up

PAGE = 0x1000  #: SectionAlignment: firmware protects memory by pages
FILE_ALIGNMENT = 0x200  #: the least; everything is padded to it, so that signers hash what is loaded
HEADERS = PAGE  #: SizeOfHeaders, as Linux has it: room for sections that others add

# Characteristics of sections
CODE, DATA, ZERO = 0x20, 0x40, 0x80
READ = 0x40000000 | DATA
READ_EXECUTE = 0x60000000 | CODE
READ_WRITE_ZERO = 0xC0000000 | ZERO

_MACHINE_AMD64 = 0x8664
_PE_AT = 0x40
_EXECUTABLE, _LARGE_ADDRESS_AWARE = 0x2, 0x20  #: relocations are not stripped: shim refuses that
_PE32_PLUS = 0x20B
_EFI_APPLICATION = 10
_NX_COMPAT = 0x100
_DIRECTORIES, _RELOCATION_DIRECTORY = 16, 5
_COFF = struct.Struct("<4sHHIIIHH")
_OPTIONAL = struct.Struct("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII")
_DIRECTORY = struct.Struct("<II")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_CHECKSUM_AT = _PE_AT + _COFF.size + 64
_TABLE_AT = _PE_AT + _COFF.size + _OPTIONAL.size + _DIRECTORIES * _DIRECTORY.size
_PIECE = 8192  #: bytes, an even number
MOST_SECTIONS = (HEADERS - _TABLE_AT) // _SECTION.size


class Checksum:
    """The checksum of PE files: the sum of all 16-bit words, each carry added to it, and the file's size.

    2^16 is 1 modulo 2^16 - 1, so that numbers of any width can be added instead: in pieces of 8 KiB it takes
    a hundredth of the time.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._size = 0
        self._half = b""

    def add(self, part: memoryview) -> None:
        """More of what is behind the headers."""
        self._size += len(part)
        if len(part) % 2 or self._half:
            joined = self._half + bytes(part)
            self._half = joined[len(joined) & ~1 :]
            part = memoryview(joined)[: len(joined) & ~1]
        total = 0
        for at in range(0, len(part), _PIECE):
            total += int.from_bytes(part[at : at + _PIECE], "little")
        self._sum += total % 0xFFFF

    def result(self, head: bytes) -> int:
        """The checksum of a file that begins with `head`, whose own field is 0."""
        total = self._sum + int.from_bytes(head, "little") % 0xFFFF + int.from_bytes(self._half, "little")
        return (total % 0xFFFF or 0xFFFF) + self._size + len(head)


def timestamp() -> int:
    """TimeDateStamp: SOURCE_DATE_EPOCH, 0 without it. Raises ValueError."""
    text = os.environ.get("SOURCE_DATE_EPOCH") or "0"
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= 1 << 32:
        raise ValueError(f"{text!r} is no number of 32 bits")
    return int(text)


def pack(layout: Layout) -> bytes:
    """All headers, padded to HEADERS, with a checksum of 0."""
    sections = layout.sections
    assert layout.entry_point is not None
    text, reloc = sections[0], next(s for s in sections if s.name == ".reloc")
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", _PE_AT)
    head += _COFF.pack(
        b"PE\0\0",
        _MACHINE_AMD64,
        len(sections),
        timestamp(),
        *(0, 0),  # symbols
        _OPTIONAL.size + _DIRECTORIES * _DIRECTORY.size,
        _EXECUTABLE | _LARGE_ADDRESS_AWARE,
    )
    head += _OPTIONAL.pack(
        _PE32_PLUS,
        *(0, 0),  # linker
        _raw(text),
        sum(map(_raw, sections[1:])),
        sum(align_up(s.size, FILE_ALIGNMENT) for s in sections if s.content is None),
        layout.entry_point,
        text.address,
        0,  # ImageBase: wherever there is room
        *(PAGE, FILE_ALIGNMENT),
        *(0, 0, 1, 0, 0, 0),  # versions of system, image, subsystem
        0,
        align_up(sections[-1].memory.end, PAGE),
        HEADERS,
        0,
        *(_EFI_APPLICATION, _NX_COMPAT),
        *(0, 0, 0, 0),  # stack and heap
        0,
        _DIRECTORIES,
    )
    for index in range(_DIRECTORIES):
        span = reloc.memory if index == _RELOCATION_DIRECTORY else Span(0, 0)
        head += _DIRECTORY.pack(span.start, span.size)
    return (head + _table(sections)).ljust(HEADERS, b"\0")


def with_checksum(head: bytes, checksum: int) -> bytes:
    """The headers with their checksum."""
    return head[:_CHECKSUM_AT] + struct.pack("<I", checksum) + head[_CHECKSUM_AT + 4 :]


def _raw(section: PlacedSection) -> int:
    return align_up(section.size, FILE_ALIGNMENT) if section.content is not None else 0


def _table(sections: Sequence[PlacedSection]) -> bytes:
    table, at = b"", HEADERS
    for s in sections:
        raw = _raw(s)
        name = s.name.encode().ljust(8, b"\0")
        table += _SECTION.pack(name, s.size, s.address, raw, at if raw else 0, 0, 0, 0, 0, s.flags)
        at += raw
    return table
