"""How much of a file's start is padding: everything that ends it, and everything that does not."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.formats.elf_front import LONGEST, first_room
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import Payload
from bootbuild.model.span import Span

CODE, FREE, START = 0x1000, 0x500, 64  #: of the file as it is: contents, padding, the end of the ELF header
LAST = 64 + 4 * 56  #: the program header GNU_STACK
Edit = Callable[[bytearray], None]


def byte(raw: bytearray) -> None:
    raw[FREE] = 1


def segment(kind: int, offset: int, filesz: int) -> Edit:
    """The last program header made this."""

    def edit(raw: bytearray) -> None:
        raw[LAST : LAST + 56] = struct.pack("<IIQQQQQQ", kind, 4, offset, 0, 0, filesz, filesz, 1)

    return edit


def section(kind: int, offset: int, size: int) -> Edit:
    """The string table made this."""

    def edit(raw: bytearray) -> None:
        at = int.from_bytes(raw[40:48], "little") + 64
        raw[at : at + 64] = struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, offset, size, 0, 0, 1, 0)
        raw[62:64] = b"\0\0"  # e_shstrndx

    return edit


def sections_in_front(raw: bytearray) -> None:
    """Of a section header table the first is all zeros."""
    at = int.from_bytes(raw[40:48], "little")
    raw[FREE : FREE + 128] = raw[at : at + 128]
    raw[40:48] = FREE.to_bytes(8, "little")


def contents_far_away(raw: bytearray) -> None:
    raw[CODE:] = bytes(0x20000) + raw[CODE:]
    for at in (64 + 56, 64 + 2 * 56, 64 + 3 * 56):
        struct.pack_into("<Q", raw, at + 8, struct.unpack_from("<Q", raw, at + 8)[0] + 0x20000)
    struct.pack_into("<Q", raw, 40, struct.unpack_from("<Q", raw, 40)[0] + 0x20000)


NULL, LOAD, NOTE, OTHER = 0, 1, 4, 0x6474E551
PROGBITS, RELA, NOBITS, REL = 1, 4, 8, 9

ENDS: dict[str, tuple[Edit, int | None]] = {
    "nothing else": (segment(OTHER, 0, 0), CODE),
    "a byte": (byte, FREE),
    "a segment": (segment(OTHER, FREE, 8), FREE),
    "a segment without bytes": (segment(OTHER, FREE, 0), CODE),
    "a program header of type null": (segment(NULL, FREE, 8), CODE),
    "a segment over the ELF header that is not loaded": (segment(OTHER, 0, 8), CODE),
    "a PT_LOAD over the ELF header": (segment(LOAD, 0, 8), None),
    "a PT_LOAD without bytes there": (segment(LOAD, 0, 0), CODE),
    "a section": (section(PROGBITS, FREE, 8), FREE),
    "a section without bytes": (section(PROGBITS, FREE, 0), CODE),
    "a section of zeros": (section(NOBITS, FREE, 8), CODE),
    "a section of type null": (section(NULL, FREE, 8), CODE),
    "relocations": (section(REL, CODE, 8), None),
    "relocations with addends": (section(RELA, CODE, 24), None),
    "the section headers": (sections_in_front, FREE),
    "more than any loader searches": (contents_far_away, START + LONGEST),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_ends_the_room_at_the_front(make_payload: Callable[[int], Payload], what: str) -> None:
    edit, end = ENDS[what]
    content = make_payload(64).elf.content
    raw = bytearray(content.read(0, content.size))
    edit(raw)
    room = first_room(read_elf(MemoryContent(bytes(raw)), what))
    assert room == (None if end is None else Span(START, end - START))
