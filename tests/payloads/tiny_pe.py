"""A PE32+ application for UEFI, written by plain structs: sections, base relocations, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PAGE, FILE_ALIGN = 0x1000, 0x200
CODE, DATA = 0x60000020, 0xC0000040  #: IMAGE_SCN_*: code, executable, readable; data, readable, writable
RELOCATIONS = 0x42000040  #: initialized data, discardable, readable
EXECUTABLE_IMAGE, LARGE_ADDRESS_AWARE = 0x0002, 0x0020
NX_COMPAT = 0x0100
SUBSYSTEM = 10  #: EFI application
DIR64 = 10  #: IMAGE_REL_BASED_DIR64


@dataclass(frozen=True)
class Section:
    """One section: its bytes at `rva`, and zeros up to `size` bytes in memory."""

    name: str
    rva: int
    data: bytes
    flags: int = DATA
    size: int = 0  #: VirtualSize; 0: that of the data


def relocations(rvas: Sequence[int]) -> bytes:
    """The blocks of .reloc that add the load offset to 64-bit words at these RVAs."""
    pages: dict[int, list[int]] = {}
    for rva in sorted(rvas):
        pages.setdefault(rva & -PAGE, []).append(DIR64 << 12 | rva % PAGE)
    blocks = b""
    for page, words in pages.items():
        entries = struct.pack(f"<{len(words)}H", *words) + bytes(2 * (len(words) % 2))
        blocks += struct.pack("<II", page, 8 + len(entries)) + entries
    return blocks


@dataclass(frozen=True)
class TinyPe:
    """What goes into the file. `changes`: bytes that stand at other offsets of it in the end."""

    sections: Sequence[Section]
    entry: int
    base: int = 0  #: ImageBase
    relocated: Sequence[int] = ()  #: RVAs of 64-bit words
    machine: int = 0x8664
    subsystem: int = SUBSYSTEM
    section_alignment: int = PAGE
    dll_characteristics: int = NX_COMPAT
    header_at: int = 0x80  #: offset of the PE header in the file
    changes: Mapping[int, bytes] = field(default_factory=dict)

    def __bytes__(self) -> bytes:
        sections = list(self.sections)
        directories = [(0, 0)] * 16
        if self.relocated:
            rva = _up(max(s.rva + max(s.size, len(s.data)) for s in sections), self.section_alignment)
            blocks = relocations(self.relocated)
            directories[5] = (rva, len(blocks))
            sections.append(Section(".reloc", rva, blocks, RELOCATIONS))
        headers = _up(self.header_at + 24 + 240 + 40 * len(sections), FILE_ALIGN)
        at, table, body = headers, b"", b""
        for section in sections:
            raw = section.data.ljust(_up(len(section.data), FILE_ALIGN), b"\0")
            size = max(section.size, len(section.data))
            place = (size, section.rva, len(raw), at if raw else 0)
            table += struct.pack("<8s4I12xI", section.name.encode(), *place, section.flags)
            body += raw
            at += len(raw)
        end = max(s.rva + max(s.size, len(s.data)) for s in sections)
        flags = EXECUTABLE_IMAGE | LARGE_ADDRESS_AWARE
        file = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", self.header_at)
        file = file.ljust(self.header_at, b"\0") + b"PE\0\0"
        file += struct.pack("<HHIIIHH", self.machine, len(sections), 0, 0, 0, 240, flags)
        file += struct.pack("<HBBIIIII", 0x20B, 0, 0, len(body), 0, 0, self.entry, sections[0].rva)
        file += struct.pack("<QII6H", self.base, self.section_alignment, FILE_ALIGN, 0, 0, 0, 0, 0, 0)
        image_size = _up(end, self.section_alignment)
        file += struct.pack(
            "<4IHH4QII", 0, image_size, headers, 0, self.subsystem, self.dll_characteristics,
            0x100000, 0x1000, 0x100000, 0x1000, 0, 16,
        )  # fmt: skip
        file += b"".join(struct.pack("<II", *directory) for directory in directories) + table
        whole = bytearray(file.ljust(headers, b"\0") + body)
        for offset, data in self.changes.items():
            whole[offset : offset + len(data)] = data
        return bytes(whole)


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
