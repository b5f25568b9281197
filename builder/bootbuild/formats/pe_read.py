"""PE files as loaders read them: headers in full, contents by reference; apart from what writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from bootbuild.model.content import Content
from bootbuild.model.span import Span


class PeError(ValueError):
    """Bytes that are no PE file; the text says what and where."""


class PeSection(NamedTuple):
    """One section header. `address` is relative to where the image is loaded."""

    name: str
    size: int  #: VirtualSize
    address: int
    raw_size: int
    raw: int  #: PointerToRawData
    relocations: int  #: PointerToRelocations
    line_numbers: int
    flags: int

    @property
    def memory(self) -> Span:
        return Span(self.address, max(self.size, 1))

    @property
    def file(self) -> Span:
        return Span(self.raw, self.raw_size)

    @property
    def readable(self) -> bool:
        return bool(self.flags & 0x40000000)

    @property
    def writable(self) -> bool:
        return bool(self.flags & 0x80000000)

    @property
    def executable(self) -> bool:
        return bool(self.flags & 0x20000000)

    @property
    def discardable(self) -> bool:
        return bool(self.flags & 0x02000000)


@dataclass(frozen=True)
class PeFile:
    """The headers of a PE32 or PE32+ file, as they are."""

    content: Content = field(repr=False)
    machine: int
    timestamp: int
    symbols: tuple[int, int]  #: PointerToSymbolTable, NumberOfSymbols
    characteristics: int
    bits: int  #: 32 (PE32) or 64 (PE32+)
    entry: int  #: AddressOfEntryPoint
    image_base: int
    section_alignment: int
    file_alignment: int
    image_size: int
    header_size: int  #: SizeOfHeaders
    checksum: int
    checksum_at: int  #: file offset of the field
    subsystem: int
    dll_characteristics: int
    directories: tuple[tuple[int, int], ...]  #: (address, size)
    table: Span  #: file range of the section headers
    sections: tuple[PeSection, ...]

    def section(self, name: str) -> PeSection | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    def read(self, section: PeSection) -> bytes:
        """What a section holds once it is loaded, without padding."""
        return self.content.read(section.raw, min(section.size, section.raw_size)).ljust(section.size, b"\0")


def is_pe(content: Content) -> bool:
    """Whether a file begins as one."""
    try:
        _signature(content)
    except PeError:
        return False
    return True


def read_pe(content: Content) -> PeFile:
    """The headers of a file. Raises PeError where there are none, or they are cut short."""
    at = _signature(content)
    coff = _Fields(content, at + 4, 20)
    optional_size = coff.number(16, 2)
    magic = _Fields(content, at + 24, 2).number(0, 2)
    bits = {0x10B: 32, 0x20B: 64}.get(magic)
    if bits is None:
        raise PeError(f"the optional header's magic number is {magic:#x}, neither PE32 nor PE32+")
    fixed = 96 if bits == 32 else 112
    optional = _Fields(content, at + 24, fixed)
    count = optional.number(fixed - 4, 4)
    if count > 16 or fixed + 8 * count > optional_size:
        raise PeError(f"{count} data directories in an optional header of {optional_size:#x} bytes")
    directories = _Fields(content, at + 24 + fixed, 8 * count)
    sections = coff.number(2, 2)
    table = Span(at + 24 + optional_size, 40 * sections)
    headers = _Fields(content, table.start, table.size)
    return PeFile(
        content=content,
        machine=coff.number(0, 2),
        timestamp=coff.number(4, 4),
        symbols=(coff.number(8, 4), coff.number(12, 4)),
        characteristics=coff.number(18, 2),
        bits=bits,
        entry=optional.number(16, 4),
        image_base=optional.number(28, 4) if bits == 32 else optional.number(24, 8),
        section_alignment=optional.number(32, 4),
        file_alignment=optional.number(36, 4),
        image_size=optional.number(56, 4),
        header_size=optional.number(60, 4),
        checksum=optional.number(64, 4),
        checksum_at=at + 24 + 64,
        subsystem=optional.number(68, 2),
        dll_characteristics=optional.number(70, 2),
        directories=tuple(
            (directories.number(8 * i, 4), directories.number(8 * i + 4, 4)) for i in range(count)
        ),
        table=table,
        sections=tuple(_section(headers, 40 * i) for i in range(sections)),
    )


def checksum_of(pe: PeFile) -> int:
    """What the checksum should be: 16-bit words added up with their carries, its own as 0, plus size."""
    total, at, step = 0, 0, 1 << 18
    while at < pe.content.size:
        part = bytearray(pe.content.read(at, step))
        for offset in range(4):
            if 0 <= (where := pe.checksum_at + offset - at) < len(part):
                part[where] = 0
        view = memoryview(part)
        total += sum(int.from_bytes(view[i : i + 4096], "little") for i in range(0, len(view), 4096)) % 0xFFFF
        at += len(part)
    return (total % 0xFFFF or 0xFFFF) + pe.content.size


def _signature(content: Content) -> int:
    """File offset of the PE signature. Raises PeError."""
    if content.read(0, 2) != b"MZ":
        raise PeError("it does not begin with MZ")
    at = _Fields(content, 0x3C, 4).number(0, 4)
    if content.read(at, 4) != b"PE\0\0":
        raise PeError(f"there is no PE signature at {at:#x}, where e_lfanew points")
    return at


class _Fields:
    """Little-endian numbers of a piece of a file."""

    def __init__(self, content: Content, at: int, size: int) -> None:
        self._data = content.read(at, size)
        if len(self._data) < size:
            raise PeError(f"the file ends within the headers, at {at + len(self._data):#x}")

    def number(self, offset: int, size: int) -> int:
        return int.from_bytes(self._data[offset : offset + size], "little")

    def text(self, offset: int, size: int) -> str:
        return self._data[offset : offset + size].split(b"\0")[0].decode("latin-1")


def _section(headers: _Fields, at: int) -> PeSection:
    return PeSection(
        name=headers.text(at, 8),
        size=headers.number(at + 8, 4),
        address=headers.number(at + 12, 4),
        raw_size=headers.number(at + 16, 4),
        raw=headers.number(at + 20, 4),
        relocations=headers.number(at + 24, 4),
        line_numbers=headers.number(at + 28, 4),
        flags=headers.number(at + 36, 4),
    )
