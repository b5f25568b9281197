"""Relocating a static PIE at build time: no loader of kernels applies relocations.

A kernel that relocates itself at run time still works: with RELA doing it again gives the same; REL and
RELR, which add to what is there, are taken out of its dynamic table when it is moved.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import pairwise

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.elf_structs import IDENT_SIZE, header
from bootbuild.formats.notes import XEN_OWNER, XenNote
from bootbuild.formats.symbols import LazySymbols
from bootbuild.model.content import MemoryContent, Piece, SplicedContent
from bootbuild.model.payload import ET_DYN, PT_DYNAMIC, PT_LOAD, PT_NULL, ElfImage, Segment, Words
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span, align_up

LOWEST = 1 << 20  #: below are firmware's tables, the boot structures of every monitor, and the ISA hole
BASE = 2 << 20  #: where a kernel linked at 0 is put: a large page, as Linux's alignment
_LOWER = "give a lower `load` in [payload]"
MAX_RELOCATIONS = 1 << 20  #: of all tables; a kernel that is a PIE has some thousands
MAX_DYNAMIC = 1 << 16  #: bytes of PT_DYNAMIC

# System V gABI chapter 5, Dynamic Section; RELR: gABI proposal of 2018, in glibc 2.36 and lld
DT_NEEDED, DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_RELAENT = 1, 2, 7, 8, 9
DT_FLAGS_1, DF_1_PIE = 0x6FFFFFFB, 0x08000000
DT_REL, DT_RELSZ, DT_RELENT, DT_JMPREL, DT_RELRSZ, DT_RELR, DT_RELRENT = 17, 18, 19, 23, 35, 36, 37
#: where a word is, and its addend; without one the addend is in the word
_Word = tuple[int, int | None]
NONE, RELATIVE = 0, 8  #: R_386_* and R_X86_64_* have the same numbers for these two


def is_pie(image: ElfImage) -> bool:
    """Whether the kernel is a PIE: an ET_DYN, or what GNU ld makes of one that is linked at an address."""
    return image.type == ET_DYN or bool(_dynamic(image).get(DT_FLAGS_1, (0, 0))[0] & DF_1_PIE)


@dataclass(frozen=True)
class Relocated:
    """A kernel with its relocations applied."""

    image: ElfImage
    moved: int = 0  #: bytes by which it lies higher than its file says; negative: lower
    done: tuple[str, ...] = ()  #: in words
    addresses: Words = field(default_factory=Words)


def relocate(image: ElfImage, load: int | None) -> Relocated:
    """The image with its relative relocations applied, and moved if it must be.

    `load`: physical address for its lowest byte; None leaves it where it is linked, but at 2 MiB if that
    is below 1 MiB. Raises InputError (BB-E040, BB-E041) when it is no static PIE.
    """
    lowest = min(s.paddr for s in image.loads)
    if load is None:
        align = max(BASE, *(s.align for s in image.loads))
        load = lowest if lowest >= LOWEST else align_up(BASE, align) + lowest % align
    delta = load - lowest
    _check(image, load, delta)
    applied = _apply(image, delta)
    if not applied.count and not delta:
        return Relocated(image)
    pieces = [Piece(0, image.content, 0, image.content.size), *applied.pieces]
    done = [f"{applied.count} relative relocations applied"] if applied.count else []
    if delta:
        pieces += [*_spent(image), *_notes(image, delta, applied.noted), *_headers(image, delta)]
        done = [f"moved from {lowest:#x} to {load:#x}", *done]
    content = SplicedContent(image.content.size, pieces)
    moved = read_elf(content, image.name)
    # Its section headers are gone, and with them the way to notes that stand in sections only.
    section_notes = tuple(
        replace(note, desc=content.read(note.desc_offset, len(note.desc))) for note in image.section_notes
    )
    assert isinstance(image.symbols, LazySymbols)  # of read_elf
    symbols = image.symbols.moved(delta)
    moved = replace(moved, symbols=symbols, section_notes=section_notes)
    return Relocated(moved, delta, tuple(done), Words(applied.places, image.bits // 8))


def _check(image: ElfImage, load: int, delta: int) -> None:
    """Raises InputError (BB-E040) where the image cannot be moved by `delta` bytes."""
    linked = [Span(s.vaddr + delta, s.memsz) for s in image.loads]
    if any((s.paddr + delta + s.memsz) >> 32 for s in image.loads) or any(
        span.start < 0 or span.end > 1 << image.bits for span in linked
    ):
        raise _error(image, rules.RELOCATION, f"loaded at {load:#x} it does not lie below 4 GiB", _LOWER)
    for what, spans in (
        ("virtual", [s.virtual for s in image.loads]),
        ("file offsets", [s.file for s in image.loads if s.filesz]),
    ):
        for lower, upper in pairwise(sorted(spans)):
            if lower.overlaps(upper):
                raise _error(image, rules.RELOCATION, f"segments at {what} {lower} and {upper} overlap")
    align = max(1, *(s.align for s in image.loads))
    if delta % align:
        text = f"loaded at {load:#x} it would be moved by {delta:#x}, no multiple of its p_align {align:#x}"
        near = load - delta % align
        raise _error(
            image, rules.RELOCATION, text, f"give a `load` that is, such as {near:#x} or {near + align:#x}"
        )
    if delta and not (_linked(image, image.entry) or _loaded(image, image.entry)):
        raise _error(image, rules.RELOCATION, f"e_entry {image.entry:#x} lies outside it and cannot be moved")


def _error(image: ElfImage, rule: Rule, text: str, remedy: str = "") -> InputError:
    return InputError(Problem(rule, image.name, text, remedy))


def _file_offset(image: ElfImage, vaddr: int, size: int) -> int | None:
    """File offset of `size` bytes at `vaddr`; None unless one PT_LOAD has them all in the file."""
    for s in image.loads:
        if Span(s.vaddr, s.filesz).covers(Span(vaddr, size)):
            return s.offset + vaddr - s.vaddr
    return None


def _dynamic(image: ElfImage) -> dict[int, tuple[int, int]]:
    """PT_DYNAMIC's values by tag, each with its file offset."""
    tables = [s for s in image.segments if s.type == PT_DYNAMIC and s.filesz]
    if not tables:
        return {}
    if len(tables) > 1 or tables[0].filesz > MAX_DYNAMIC:
        raise _error(image, rules.DYNAMIC, f"{len(tables)} tables, the first of {tables[0].filesz:#x} bytes")
    entry = struct.Struct("<II" if image.bits == 32 else "<QQ")
    data = image.content.read(tables[0].offset, tables[0].filesz // entry.size * entry.size)
    found: dict[int, tuple[int, int]] = {}
    for index, (tag, value) in enumerate(entry.iter_unpack(data)):
        if not tag:
            break
        found[tag] = value, tables[0].offset + index * entry.size + entry.size // 2
    return found


def _spent(image: ElfImage) -> Iterator[Piece]:
    """The sizes of the tables that may not be applied twice, set to 0."""
    word = image.bits // 8
    dynamic = _dynamic(image)
    for tag in (DT_RELSZ, DT_RELRSZ, *((DT_PLTRELSZ,) if image.bits == 32 else ())):
        if tag in dynamic:
            yield Piece(dynamic[tag][1], MemoryContent(bytes(word)), 0, word)


def _words(image: ElfImage) -> Iterator[_Word]:
    """Every word that the relocations change, table by table."""
    dynamic = _dynamic(image)
    if DT_NEEDED in dynamic:
        raise _error(image, rules.RELOCATION, "it needs a shared library: it is not static")
    word = struct.Struct("<I" if image.bits == 32 else "<Q")
    for tag, size_tag, entry_tag in (
        (DT_RELA, DT_RELASZ, DT_RELAENT),
        (DT_REL, DT_RELSZ, DT_RELENT),
        (DT_RELR, DT_RELRSZ, DT_RELRENT),
        (DT_JMPREL, DT_PLTRELSZ, 0),
    ):
        address, size = (dynamic.get(one, (0, 0))[0] for one in (tag, size_tag))
        if tag not in dynamic or not size:
            continue
        has_addend = tag == DT_RELA or (tag == DT_JMPREL and image.bits == 64)
        entry = word.size if tag == DT_RELR else word.size * (3 if has_addend else 2)
        if (entry_tag in dynamic and dynamic[entry_tag][0] != entry) or size % entry:
            raise _error(image, rules.DYNAMIC, f"{size:#x} bytes of relocations, whose size is not {entry}")
        offset = _file_offset(image, address, size)
        if offset is None or size // entry > MAX_RELOCATIONS:
            text = f"{size:#x} bytes of relocations at {address:#x} lie outside the file, or are too many"
            raise _error(image, rules.DYNAMIC, text)
        data = image.content.read(offset, size)
        if tag == DT_RELR:
            yield from _relr(data, word)
        elif has_addend:
            yield from _entries(image, struct.Struct("<IIi" if image.bits == 32 else "<QQq"), data)
        else:
            yield from _entries(image, struct.Struct("<II" if image.bits == 32 else "<QQ"), data)


def _entries(image: ElfImage, entry: struct.Struct, data: bytes) -> Iterator[_Word]:
    """Elf_Rel or Elf_Rela: r_offset, r_info, maybe r_addend."""
    mask = 0xFF if image.bits == 32 else 0xFFFFFFFF
    for at, info, *addend in entry.iter_unpack(data):
        kind = info & mask
        if kind == NONE:
            continue
        if kind != RELATIVE:
            raise _error(image, rules.RELOCATION, f"relocation of type {kind} at {at:#x}; only RELATIVE (8)")
        yield at, addend[0] if addend else None


def _relr(data: bytes, word: struct.Struct) -> Iterator[_Word]:
    """An even word is an address; an odd one is a bitmap of the words after the last."""
    at = 0
    for (value,) in word.iter_unpack(data):
        if not value & 1:
            yield value, None
            at = value + word.size
            continue
        left = value >> 1
        while left:
            lowest = left & -left
            yield at + (lowest.bit_length() - 1) * word.size, None
            left ^= lowest
        at += (8 * word.size - 1) * word.size


@dataclass(frozen=True)
class _Applied:
    """What the relocations changed."""

    pieces: tuple[Piece, ...]  #: the segments that have relocated words, with these words
    count: int  #: of relocations
    noted: frozenset[int]  #: file offsets of the contents of notes that are such words
    places: Sequence[int]  #: physical addresses of the words, where they now are


def _apply(image: ElfImage, delta: int) -> _Applied:
    """Change each word as it is read: a small table may name more of them than a list has room for."""
    size = image.bits // 8
    mask = (1 << image.bits) - 1
    descs = {note.desc_offset for note in (*image.notes, *image.section_notes)}
    copies: dict[Segment, bytearray] = {}
    noted: set[int] = set()
    places = array("I")
    start, last, shift, count = 0, -1, 0, 0  # addresses at which a word of the segment at hand may begin
    data, up = bytearray(), 0
    for count, (at, addend) in enumerate(_words(image), 1):
        if count > MAX_RELOCATIONS:
            raise _error(image, rules.DYNAMIC, f"more than {MAX_RELOCATIONS} relocations")
        if not start <= at <= last:
            home = next((s for s in image.loads if s.vaddr <= at <= s.vaddr + s.filesz - size), None)
            if home is None:
                text = f"a relocation changes {at:#x}, where no segment has bytes"
                raise _error(image, rules.RELOCATION, text)
            start, last, shift = home.vaddr, home.vaddr + home.filesz - size, home.offset - home.vaddr
            if home not in copies:
                copies[home] = bytearray(home.filesz)
                image.content.read_into(home.offset, memoryview(copies[home]))
            data, up = copies[home], home.paddr - home.vaddr + delta
        place = at - start
        base = int.from_bytes(data[place : place + size], "little") if addend is None else addend
        data[place : place + size] = ((base + delta) & mask).to_bytes(size, "little")
        places.append(at + up)
        if at + shift in descs:
            noted.add(at + shift)
    pieces = (Piece(s.offset, MemoryContent(data), 0, s.filesz) for s, data in copies.items())
    return _Applied(tuple(pieces), count, frozenset(noted), places)


def _linked(image: ElfImage, vaddr: int) -> bool:
    return image.segment_at(vaddr) is not None


def _loaded(image: ElfImage, paddr: int) -> bool:
    return any(paddr in s.physical for s in image.loads)


def _move(image: ElfImage, s: Segment, delta: int) -> Segment:
    """A program header of the moved kernel; what is not loaded (PT_GNU_STACK) has no address to move.

    Nor has a PT_LOAD of no bytes, which may lie anywhere: it becomes PT_NULL.
    """
    if s.type == PT_LOAD:
        if not s.memsz:
            return replace(s, type=PT_NULL)
        return replace(s, vaddr=s.vaddr + delta, paddr=s.paddr + delta)
    if not s.memsz or not _linked(image, s.vaddr):
        return s
    return replace(s, vaddr=s.vaddr + delta, paddr=(s.paddr + delta) % (1 << image.bits))


#: notes that hold an address: where it lies decides whether it moves
_ADDRESSES: Mapping[int, Callable[[ElfImage, int], bool]] = {
    XenNote.ENTRY: _linked,
    XenNote.HYPERCALL_PAGE: _linked,
    XenNote.PHYS32_ENTRY: _loaded,
}


def _notes(image: ElfImage, delta: int, relocated: AbstractSet[int]) -> Iterator[Piece]:
    """Xen notes whose contents are addresses in the kernel, unless a relocation has them already."""
    for note in (*image.notes, *image.section_notes):
        inside = _ADDRESSES.get(note.type) if note.owner == XEN_OWNER else None
        if inside is None or len(note.desc) not in (4, 8) or note.desc_offset in relocated:
            continue
        value = int.from_bytes(note.desc, "little")
        if inside(image, value):
            data = MemoryContent((value + delta).to_bytes(len(note.desc), "little"))
            yield Piece(note.desc_offset, data, 0, data.size)


def _headers(image: ElfImage, delta: int) -> Iterator[Piece]:
    """The ELF header without sections, whose addresses would be wrong, and the program headers."""
    elf, old = header(image.content)
    new = replace(old, e_entry=image.entry + delta, e_shoff=0, e_shnum=0, e_shstrndx=0)
    head = elf.ehdr.pack(*(getattr(new, name) for name in new.__dataclass_fields__))
    yield Piece(IDENT_SIZE, MemoryContent(head), 0, len(head))
    table = b"".join(elf.pack_segment(_move(image, s, delta)) for s in image.segments)
    yield Piece(old.e_phoff, MemoryContent(table), 0, len(table))
