"""A PE as firmware loads it: sections mapped at their RVAs, relocations applied. A reader of its own.

Only what takes the file into memory is judged here: MdePkg/Library/BasePeCoffLib/BasePeCoff.c. What else a
loader demands is its model's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bootbuild.model.content import Content
from bootbuild.model.span import Span, align_up
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.ovmf import PAGE

MACHINE_X64, PE32_PLUS = 0x8664, 0x20B
SUBSYSTEM_APPLICATION = 10
NX_COMPAT = 0x0100
SCN_EXECUTE, SCN_WRITE = 0x20000000, 0x80000000
_RELOCATIONS_STRIPPED = 0x0001
_RELOCATION_TABLE = 5  #: IMAGE_DIRECTORY_ENTRY_BASERELOC
_ABSOLUTE, _HIGHLOW, _DIR64 = 0, 3, 10
_OPTIONAL = 112  #: bytes of a PE32+ optional header before the directories


class NotAnImage(ValueError):
    """Why a file cannot be loaded, in words; `code` is the EFI_STATUS of LoadImage."""

    def __init__(self, text: str, code: int = status.UNSUPPORTED) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class PeSection:
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
    relocatable: bool
    nx_compat: bool
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

    def load(self, base: int) -> bytearray:
        """Its bytes in memory at `base`. Raises NotAnImage."""
        memory = bytearray(align_up(self.size, PAGE))
        view = memoryview(memory)
        self.content.read_into(0, view[: self.headers])
        for section in self.sections:
            size = min(section.raw_size, section.size) if section.size else section.raw_size
            if section.rva + max(size, section.size) > self.size:
                raise NotAnImage(f"section {section.name} ends behind SizeOfImage", status.LOAD_ERROR)
            if self.content.read_into(section.raw, view[section.rva : section.rva + size]) < size:
                raise NotAnImage(f"the file ends within section {section.name}")
        if base != self.base and not self.relocatable:
            raise NotAnImage(f"it has no relocations and {self.base:#x} is taken")
        if base != self.base:
            self._relocate(memory, base - self.base)
        return memory

    def _relocate(self, memory: bytearray, delta: int) -> None:
        if self.relocations.size and self.relocations.end > self.size:
            text = f"its relocations at {self.relocations} lie behind SizeOfImage"
            raise NotAnImage(text, status.LOAD_ERROR)
        for rva, kind in _relocations(memory, self.relocations):
            size, code = {_HIGHLOW: (4, "<I"), _DIR64: (8, "<Q")}[kind]
            if rva + size > self.size:
                raise NotAnImage(f"a relocation at {rva:#x} lies behind SizeOfImage", status.LOAD_ERROR)
            (word,) = struct.unpack_from(code, memory, rva)
            struct.pack_into(code, memory, rva, word + delta & (1 << 8 * size) - 1)


def _relocations(memory: bytearray, table: Span) -> Iterator[tuple[int, int]]:
    """(RVA, type) of each entry of the blocks that were loaded with the image."""
    at = table.start
    while at + 8 <= table.end:
        page, size = struct.unpack_from("<II", memory, at)
        if size < 8 or at + size > min(table.end, len(memory)):
            raise NotAnImage(f"a block of relocations of {size} bytes at {at:#x}")
        for (word,) in struct.iter_unpack("<H", memory[at + 8 : at + size - size % 2]):
            if word >> 12 in (_HIGHLOW, _DIR64):
                yield page + (word & 0xFFF), word >> 12
            elif word >> 12 != _ABSOLUTE:
                raise NotAnImage(f"a relocation of type {word >> 12}")
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
    size, headers, _, subsystem, dll = struct.unpack_from("<IIIHH", coff, 24 + 56)
    (directories,) = struct.unpack_from("<I", coff, 24 + 108)
    tables = content.read(at + 24 + _OPTIONAL, 8 * min(directories, 16))
    table = Span(0, 0)
    if directories > _RELOCATION_TABLE and len(tables) >= 8 * (_RELOCATION_TABLE + 1):
        table = Span(*struct.unpack_from("<II", tables, 8 * _RELOCATION_TABLE))
    raw = content.read(at + 24 + optional_size, 40 * count)
    if len(raw) < 40 * count or headers > content.size:
        raise NotAnImage("the file ends within its headers")
    if headers >= size:  # PeCoffLib.c PeCoffLoaderGetPeHeader
        raise NotAnImage(f"{headers:#x} bytes of headers do not fit an image of {size:#x}")
    sections = tuple(
        PeSection(name.rstrip(b"\0").decode("latin-1"), rva, virtual, offset, raw_size, kind)
        for name, virtual, rva, raw_size, offset, kind in struct.iter_unpack("<8s4I12xI", raw)
    )
    return PeImage(
        content=content,
        entry=entry,
        base=base,
        size=size,
        headers=headers,
        section_alignment=alignment,
        sections=sections,
        relocations=table,
        relocatable=not flags & _RELOCATIONS_STRIPPED,
        nx_compat=bool(dll & NX_COMPAT),
        subsystem=subsystem,
    )
