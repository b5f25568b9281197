"""A new ELF file around the loadable bytes of a kernel: for raw kernels, and for the other class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.elf_structs import CLASSES, IDENT_SIZE, MAGIC, ElfClass
from bootbuild.formats.relocate import LOWEST
from bootbuild.model.content import Content, MemoryContent, Piece, SplicedContent
from bootbuild.model.payload import ET_EXEC, PT_LOAD, PT_NOTE, ElfImage, Segment
from bootbuild.model.span import align_up

PAGE, LARGE_PAGE = 0x1000, 0x200000


class Part(NamedTuple):
    """A program header, and the content whose bytes from `offset` on it takes."""

    segment: Segment
    source: Content
    offset: int


def fresh(
    bits: int, entry: int, parts: Sequence[Part], name: str, room: int = 0, *, flat: bool = False
) -> ElfImage:
    """An ET_EXEC of class `bits` (32 or 64) with these program headers, in this order, and no sections.

    With `room` that many zeros follow the program headers, and one null section stands at the end: without
    any, GRUB from 2.14 on says `invalid section header table offset in e_shoff`.

    Bytes are taken by reference. File offsets of PT_LOADs agree with p_vaddr modulo p_align, and modulo
    4 KiB; a p_align above 2 MiB becomes that. `flat`: all of `parts` are PT_LOADs apart in memory, and
    p_offset less p_paddr is the same of each, for which a p_align may become smaller; the null section stands
    in front of them. Raises InputError (BB-E044) when an address, a size or an offset does not fit the class.
    """
    elf = CLASSES[bits // 32]
    limit = 1 << bits

    def refused(what: str) -> InputError:
        return InputError(Problem(rules.CLASS, name, f"{what} does not fit ELF{bits}"))

    for s in (part.segment for part in parts):
        if max(s.vaddr, s.paddr) + s.memsz > limit or s.memsz >= limit:
            raise refused(f"segment at {s.virtual}")
    if entry >= limit:
        raise refused(f"e_entry {entry:#x}")
    at = IDENT_SIZE + elf.ehdr.size + len(parts) * elf.phdr.size
    at += room
    sections = align_up(at, 8)
    base = _base(sections + elf.shdr.size, [part.segment for part in parts]) if flat else 0
    table, pieces = b"", []
    for part in parts:
        s = part.segment
        align = _alignment(s)
        at = align_up(at, PAGE if s.type == PT_LOAD else 8)
        offset = at + (s.vaddr - at) % max(align, PAGE) if s.type == PT_LOAD else at
        if flat:
            offset = base + s.paddr
            align = min(align, offset - s.vaddr & s.vaddr - offset or align)
        if offset >= limit:
            raise refused(f"file offset {offset:#x}")
        table += elf.pack_segment(replace(s, offset=offset, align=align))
        if s.filesz:  # padding before no bytes would be all that there is
            pieces.append(Piece(offset, part.source, part.offset, s.filesz))
            at = offset + s.filesz
    if room and not flat:
        sections = align_up(at, 8)
        at = sections + elf.shdr.size
    head = _header(elf, entry, len(parts), sections if room else 0) + table
    if flat:
        at = max(base + s.paddr + s.filesz for s in (part.segment for part in parts))
    return read_elf(SplicedContent(at, [Piece(0, MemoryContent(head), 0, len(head)), *pieces]), name)


def _base(start: int, loads: Sequence[Segment]) -> int:
    """Offset less physical address in a flat file whose contents begin at `start` or behind it.

    They keep their alignment if the file's head, which is loaded in front of them, stays above 1 MiB by that.
    """
    lowest, at = min(s.paddr for s in loads), align_up(start, PAGE)
    most = max(PAGE, *map(_alignment, loads))
    if lowest - (lowest - at) % most - at < LOWEST:
        most = PAGE
    return at + (lowest - at) % most - lowest


def _alignment(s: Segment) -> int:
    """The p_align that it keeps: by the largest one Xen moves a kernel with PHYS32_RELOC."""
    if s.align <= PAGE:
        return s.align
    return PAGE if s.align & (s.align - 1) or s.type != PT_LOAD else min(s.align, LARGE_PAGE)


def _header(elf: ElfClass, entry: int, count: int, sections: int) -> bytes:
    """The ELF header of `count` program headers; `sections`: offset of the one section header, 0 for none."""
    ident = MAGIC + bytes((elf.bits // 32, 1, 1))
    size = IDENT_SIZE + elf.ehdr.size
    fields = elf.ehdr.pack(
        *(ET_EXEC, elf.machine, 1, entry, size, sections, 0, size),
        *(elf.phdr.size, count, elf.shdr.size, int(bool(sections)), 0),
    )
    return ident.ljust(IDENT_SIZE, b"\0") + fields


def rewrap(
    image: ElfImage, bits: int, room: int = 0, *, physical: bool = False, flat: bool = False
) -> ElfImage:
    """The same kernel as an ELF file of class `bits`: what is loaded, its notes, its symbols by name.

    The code stays what it is: rust-vmm's linux-loader takes nothing but ELF64, also for a PVH entry, which
    is 32-bit code; QEMU takes nothing but ELF32 for Multiboot. `room`: as in `fresh`. `physical`: each
    p_vaddr, and e_entry, becomes the address where it is loaded, which is all that those loaders look at.
    `flat`: as in `fresh`, without the notes, which would lie between. Raises InputError (BB-E044).
    """
    kept = [s for s in image.segments if (s.type == PT_NOTE and not flat) or (s.type == PT_LOAD and s.memsz)]
    entry = image.entry
    if physical:
        home = image.segment_at(entry)
        entry = entry if home is None else entry - home.vaddr + home.paddr
        kept = [replace(s, vaddr=s.paddr) for s in kept]
    parts = [Part(s, image.content, s.offset) for s in kept]
    new = fresh(bits, entry, parts, image.name, room, flat=flat)
    return replace(new, symbols=image.symbols, section_notes=image.section_notes)
