"""The headers of a PE where loaders look for them, whatever is there, and its sections as they are mapped."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from bootbuild_loaders import rules
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

WORD = 0xFFFFFFFF
DOS_SIZE, NT_SIZE, SECTION_SIZE = 64, 264, 40  #: bytes: EFI_IMAGE_DOS_HEADER, _NT_HEADERS64, _SECTION_HEADER
PE32, PE32_PLUS = 0x10B, 0x20B
FIXED_SIZE = {PE32: 96, PE32_PLUS: 112}  #: bytes of an optional header before its directories
DIRECTORIES = 16
RESOURCE, SECURITY, BASE_RELOCATIONS, DEBUG = 2, 4, 5, 6  #: numbers of directories
STRIPPED = 0x0001  #: IMAGE_FILE_RELOCS_STRIPPED
WRITTEN_MAX = 64 << 20  #: bytes of overlapping sections that are followed
UNINITIALIZED, DISCARDABLE = 0x80, 0x02000000  #: IMAGE_SCN_*, as the next
EXECUTE, READ, WRITE = 0x20000000, 0x40000000, 0x80000000


class Section(NamedTuple):
    """One section header."""

    name: bytes
    size: int  #: VirtualSize
    address: int  #: VirtualAddress
    raw_size: int
    raw: int  #: PointerToRawData
    relocations: int  #: PointerToRelocations
    relocation_count: int
    flags: int

    @property
    def copied(self) -> int:
        """How many bytes of the file are loaded."""
        return self.raw_size if self.size == 0 else min(self.size, self.raw_size)

    @property
    def end(self) -> int:
        """The first RVA behind what loading writes."""
        return self.address + max(self.size, self.copied)


@dataclass(frozen=True)
class Headers:
    """What lies behind a PE signature at `at`. The fields of PE32 and PE32+ alike."""

    window: Window
    at: int

    @property
    def machine(self) -> int:
        return self.window.u16(self.at + 4)

    @property
    def section_count(self) -> int:
        return self.window.u16(self.at + 6)

    @property
    def optional_size(self) -> int:
        return self.window.u16(self.at + 20)

    @property
    def stripped(self) -> bool:
        return bool(self.window.u16(self.at + 22) & STRIPPED)

    @property
    def magic(self) -> int:
        return self.window.u16(self.at + 24)

    @property
    def entry(self) -> int:
        return self._word(16)

    @property
    def image_base(self) -> int:
        if self.magic == PE32:
            return self._word(28)
        return self._word(24) | self._word(28) << 32

    @property
    def section_alignment(self) -> int:
        return self._word(32)

    @property
    def file_alignment(self) -> int:
        return self._word(36)

    @property
    def image_version(self) -> int:
        """MajorImageVersion."""
        return self.window.u16(self.at + 24 + 44)

    @property
    def image_size(self) -> int:
        return self._word(56)

    @property
    def header_size(self) -> int:
        return self._word(60)

    @property
    def subsystem(self) -> int:
        return self.window.u16(self.at + 24 + 68)

    @property
    def directory_count(self) -> int:
        """NumberOfRvaAndSizes."""
        return self._word(FIXED_SIZE[self.magic] - 4)

    def directory(self, number: int) -> tuple[int, int]:
        """Address and size, (0, 0) of one that is not there."""
        if number >= self.directory_count:
            return 0, 0
        return self.words_of_directory(number)

    def words_of_directory(self, number: int) -> tuple[int, int]:
        """The same where nobody has looked whether it is there."""
        at = FIXED_SIZE[self.magic] + 8 * number
        return self._word(at), self._word(at + 4)

    @property
    def table(self) -> int:
        """File offset of the section headers."""
        return self.at + 24 + self.optional_size

    @cached_property
    def sections(self) -> Sequence[Section]:
        """Those that lie in the file as a whole."""
        raw = self.window.get(self.table, SECTION_SIZE * self.section_count)
        return [
            Section(name, size, address, raw_size, pointer, relocations, count, flags)
            for name, size, address, raw_size, pointer, relocations, count, flags in struct.iter_unpack(
                "<8s5I4xH2xI", raw[: len(raw) - len(raw) % SECTION_SIZE]
            )
        ]

    def _word(self, offset: int) -> int:
        return self.window.u32(self.at + 24 + offset)


def overlap(sections: Sequence[Section]) -> bool:
    """Whether two have bytes of memory in common."""
    spans = sorted((s.address, s.end) for s in sections if s.end > s.address)
    return any(before[1] > after[0] for before, after in pairwise(spans))


def holds(section: Section, rva: int) -> bool:
    """Whether that byte of memory is the section's."""
    return section.address <= rva < section.end


def mapped(headers: Headers, start: int, size: int) -> bytes:
    """Bytes of the image in memory, zeros where nothing was written. Sections are copied in their order.

    Raises Stopped where they are written over more often than can be followed.
    """
    memory, written = bytearray(size), 0
    for at, data in _pieces(headers, start, start + size):
        written += len(data)
        if written > WRITTEN_MAX:
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        memory[at - start : at - start + len(data)] = data
    return bytes(memory)


def _pieces(headers: Headers, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """What is written there, in order."""
    window = headers.window
    if start < headers.header_size:
        yield start, window.get(start, min(end, headers.header_size) - start)
    for section in headers.sections:
        low, high = max(start, section.address), min(end, section.end)
        if low < high:
            offset, whole = low - section.address, high - low
            data = window.get(section.raw + offset, min(whole, section.copied - offset))
            yield low, data.ljust(whole, b"\0")
