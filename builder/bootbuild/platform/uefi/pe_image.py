"""A PE as firmware loads it: sections mapped at their RVAs, relocations applied. A reader of its own.

Only what takes the file into memory is judged here: MdePkg/Library/BasePeCoffLib/BasePeCoff.c. What else a
loader demands is its model's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bootbuild.model.content import Content, MemoryContent, Piece, SplicedContent
from bootbuild.model.machine import Load
from bootbuild.model.span import Span, align_up
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.ovmf import PAGE

MACHINE_X64, PE32_PLUS = 0x8664, 0x20B
SUBSYSTEM_APPLICATION = 10
SCN_EXECUTE, SCN_WRITE = 0x20000000, 0x80000000
_RELOCATIONS_STRIPPED = 0x0001
_CERTIFICATE_TABLE, _RELOCATION_TABLE = 4, 5  #: IMAGE_DIRECTORY_ENTRY_SECURITY, _BASERELOC
#: of each type of base relocation the bytes that it changes, and by which bits of the distance:
#: IMAGE_REL_BASED_ABSOLUTE, HIGH, LOW, HIGHLOW, DIR64
_FIXUPS = {0: (0, 0), 1: (2, 16), 2: (2, 0), 3: (4, 0), 10: (8, 0)}
_COPIED_MAX = 4 << 30  #: bytes: twice what any machine here has; more takes sections that overlap
_OPTIONAL = 112  #: bytes of a PE32+ optional header before the directories
_PART = 1 << 20  #: bytes: an image is relocated by parts, those in which there is something to change
_TABLE_MAX = 1 << 20  #: bytes of base relocations that are followed: a second; EDK2 has no limit
_DIRECTORIES, _SECTION = 16, 40  #: how many there may be; bytes of a section header


class NotAnImage(ValueError):
    """Why a file cannot be loaded, in words; `code` is the EFI_STATUS of LoadImage."""

    def __init__(self, text: str, code: int = status.UNSUPPORTED) -> None:
        super().__init__(text)
        self.code = code


class PeSection(NamedTuple):
    """A section header: `size` bytes at `rva`, of which the file has `raw_size` from `raw`."""

    name: str
    rva: int
    size: int
    raw: int
    raw_size: int
    flags: int

    @property
    def span(self) -> Span:
        """The RVAs that it takes."""
        return Span(self.rva, self.size or self.raw_size)


@dataclass(frozen=True)
class PeImage:
    """What loading takes from the headers. All addresses are RVAs but `base`."""

    content: Content
    entry: int
    base: int  #: where it was linked
    size: int  #: bytes
    headers: int  #: bytes of the file that are loaded at RVA 0
    section_alignment: int
    sections: tuple[PeSection, ...]
    relocations: Span
    certificates: Span  #: in the file
    relocatable: bool
    subsystem: int

    @property
    def pages(self) -> int:
        """That it needs: CoreLoadPeImage, with room to align it."""
        room = self.section_alignment if self.section_alignment > PAGE else 0
        return align_up(self.size + room, PAGE) // PAGE

    def aligned(self, address: int) -> int:
        """Where it begins in pages at this address: EDK2 takes SectionAlignment for a power of two."""
        below = max(self.section_alignment, 1) - 1
        return address + below & ~below

    def section(self, name: str) -> PeSection | None:
        """The first section of this name."""
        return next((section for section in self.sections if section.name == name), None)

    def load(self, base: int) -> tuple[Load, ...]:
        """What is put into memory one after the other, for the image to be at `base`. Raises NotAnImage."""
        pieces = [Piece(0, self.content, 0, self.headers)]
        copied = 0
        for section in self.sections:
            if section.span.size and section.span.end > self.size:
                raise NotAnImage(f"section {section.name} ends behind SizeOfImage", status.LOAD_ERROR)
            size = min(section.raw_size, section.size) if section.size else section.raw_size
            copied += size
            if copied > _COPIED_MAX:
                raise NotAnImage("its sections overlap, and are more than 4 GiB to be copied")
            pieces.append(Piece(section.rva, self.content, section.raw, size))
        if base != self.base and not self.relocatable:
            raise NotAnImage(f"it has no relocations and {self.base:#x} is taken")
        if self.relocatable:
            pieces += self._relocated(SplicedContent(self.size, pieces), base - self.base)
        all_of_it = Load(base, MemoryContent(b""), 0, 0, align_up(self.size, PAGE))
        return all_of_it, *(Load(base + p.at, p.source, p.offset, p.size, p.size) for p in pieces)

    def _relocated(self, linked: Content, delta: int) -> Iterator[Piece]:
        """What of the image is otherwise when it lies `delta` bytes above where it was linked."""
        if self.relocations.size and self.relocations.end > self.size:
            text = f"its relocations at {self.relocations} lie behind SizeOfImage"
            raise NotAnImage(text, status.LOAD_ERROR)
        if not delta:
            return
        if self.relocations.size > _TABLE_MAX:
            raise NotAnImage(f"{self.relocations.size:#x} bytes of relocations: 1 MiB are followed here")
        parts: dict[int, bytearray] = {}

        def part_of(number: int) -> bytearray:
            if number not in parts:
                parts[number] = bytearray(linked.read(number * _PART, _PART))
            return parts[number]

        for rva, size, shift in self._relocations(linked):
            number, at = divmod(rva, _PART)
            here = min(size, _PART - at)  # bytes of it; others are in the next part
            part = part_of(number)
            old = part[at : at + here]
            if here < size:
                old += part_of(number + 1)[: size - here]
            word = int.from_bytes(old, "little") + (delta >> shift) & (1 << 8 * size) - 1
            new = word.to_bytes(size, "little")
            part[at : at + here] = new[:here]
            if here < size:
                part_of(number + 1)[: size - here] = new[here:]
        for number, part in parts.items():
            yield Piece(number * _PART, MemoryContent(part), 0, len(part))

    def _relocations(self, linked: Content) -> Iterator[tuple[int, int, int]]:
        """RVA and bytes of each word that is to be changed, and by which bits of the distance."""
        end = self.relocations.size
        table = linked.read(self.relocations.start, end + 1)
        at = 0
        while at < end - 1:
            page, size = struct.unpack("<II", table[at : at + 8].ljust(8, b"\0"))
            if not size or at + size > end or page >= self.size:
                text = f"a block of relocations of {size} bytes at {self.relocations.start + at:#x}"
                raise NotAnImage(text, status.LOAD_ERROR)
            for (word,) in struct.iter_unpack("<H", table[at + 8 : at + size + size % 2]):
                rva, kind = page + (word & 0xFFF), word >> 12
                if kind not in _FIXUPS:
                    raise NotAnImage(f"a relocation of type {kind}")
                bytes_, shift = _FIXUPS[kind]
                if rva + max(bytes_, 1) > self.size:
                    raise NotAnImage(f"a relocation at {rva:#x} lies behind SizeOfImage", status.LOAD_ERROR)
                yield rva, bytes_, shift
            at += size


def read_pe(content: Content) -> PeImage:
    """The headers of a file. Raises NotAnImage."""
    head = content.read(0, 64)
    if head[:2] != b"MZ" or len(head) < 64:
        raise NotAnImage("it does not begin with MZ")
    (at,) = struct.unpack_from("<I", head, 0x3C)
    coff = content.read(at, 24 + _OPTIONAL)
    if coff[:4] != b"PE\0\0" or len(coff) < 24 + _OPTIONAL:
        raise NotAnImage(f"there is no PE header at {at:#x}")
    machine, count, _, _, _, optional_size, flags = struct.unpack_from("<HHIIIHH", coff, 4)
    magic, entry = struct.unpack_from("<H14xI", coff, 24)
    if machine != MACHINE_X64 or magic != PE32_PLUS:
        raise NotAnImage(f"machine {machine:#x} with magic {magic:#x} is no x86-64 PE32+")
    base, alignment = struct.unpack_from("<QI", coff, 24 + 24)
    size, headers, _, subsystem = struct.unpack_from("<IIIH", coff, 24 + 56)
    (directories,) = struct.unpack_from("<I", coff, 24 + 108)
    if directories > _DIRECTORIES or optional_size != _OPTIONAL + 8 * directories:
        raise NotAnImage(f"an optional header of {optional_size} bytes with {directories} directories")
    end = at + 24 + optional_size
    if not end < headers < size or (size - end) // _SECTION <= count or (headers - end) // _SECTION < count:
        raise NotAnImage(
            f"{headers:#x} bytes of headers do not fit an image of {size:#x}, or {count} sections"
        )
    words = content.read(at + 24 + _OPTIONAL, 8 * directories).ljust(8 * _DIRECTORIES, b"\0")
    tables = [Span(*pair) for pair in struct.iter_unpack("<II", words)]
    certificates = tables[_CERTIFICATE_TABLE]
    if headers > content.size or (certificates.size and certificates.end > content.size):
        raise NotAnImage("the file ends within its headers or its certificates")
    raw = content.read(end, _SECTION * count)
    sections = tuple(
        PeSection(name.rstrip(b"\0").decode("latin-1"), rva, virtual, offset, raw_size, kind)
        for name, virtual, rva, raw_size, offset, kind in struct.iter_unpack("<8s4I12xI", raw)
    )
    for section in sections:
        if section.raw_size and min(section.rva, section.raw) < headers:
            raise NotAnImage(f"section {section.name} lies in the headers")
        if section.raw_size and section.raw + section.raw_size > content.size:
            raise NotAnImage(f"the file ends within section {section.name}")
    return PeImage(
        content=content,
        entry=entry,
        base=base,
        size=size,
        headers=headers,
        section_alignment=alignment,
        sections=sections,
        relocations=tables[_RELOCATION_TABLE],
        certificates=certificates,
        relocatable=not flags & _RELOCATIONS_STRIPPED,
        subsystem=subsystem,
    )
