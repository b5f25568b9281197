"""Reading an ELF file: every header checked against the file before it is believed.

Plain structs, since a library would first have to be protected from the file: the parse costs a few
milliseconds whatever the file claims, and contents are never read. The writing side is read back by
pyelftools instead (`containers/verify.py`).
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.formats.elf_structs import CLASSES, IDENT_SIZE, MAGIC, ElfClass, ElfHeader
from bootbuild.formats.kallsyms import KallsymsSymbols
from bootbuild.formats.notes import NoteError, parse_padded
from bootbuild.formats.symbols import MAX_STRINGS, MAX_SYMBOLS, SymbolTable
from bootbuild.model.content import Content
from bootbuild.model.payload import (
    ET_DYN,
    ET_EXEC,
    PT_LOAD,
    PT_NOTE,
    PT_NULL,
    ElfImage,
    Note,
    Segment,
)
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span

ELFDATA2LSB, EV_CURRENT = 1, 1
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 2, 3, 7

MAX_PHDRS = 1024  #: Linux has 5; the densest kernels seen have a dozen
MAX_SHDRS = 0xFF00  #: SHN_LORESERVE; more needs the extension of section 0, which kernels never need
MAX_NOTE_BYTES = 1 << 20  #: of all PT_NOTEs; Linux has half a KiB
MAX_NOTE_SECTIONS = 64  #: Linux has five
MAX_PROBLEMS = 20  #: named one by one; a hostile file could have a thousand


class _Reader:
    """One pass over one file; collects problems and goes on where something is left to read."""

    def __init__(self, content: Content, name: str) -> None:
        self.content = content
        self.name = name
        self.problems: list[Problem] = []

    def problem(self, rule: Rule, message: str, at: int | None = None) -> None:
        where = self.name if at is None else f"{self.name}@{at:#x}"
        self.problems.append(Problem(rule, where, message))

    def stop(self) -> InputError:
        rest = len(self.problems) - MAX_PROBLEMS
        shown = self.problems[:MAX_PROBLEMS]
        if rest > 0:
            last = self.problems[-1]
            shown.append(Problem(last.rule, self.name, f"and {rest} problems more"))
        return InputError(shown)

    def elf_class(self) -> ElfClass:
        """The class by e_ident; raises where nothing can be read without it."""
        ident = self.content.read(0, IDENT_SIZE)
        if ident[:4] != MAGIC:
            self.problem(rules.NOT_ELF, f"begins with {ident[:4].hex(' ') or 'nothing'}")
            raise self.stop()
        if len(ident) < IDENT_SIZE:
            self.problem(rules.TRUNCATED_HEADER, f"the file has {self.content.size} bytes")
            raise self.stop()
        kind, data, version = ident[4:7]
        if kind not in CLASSES:
            self.problem(rules.ENCODING, f"EI_CLASS is {kind}, neither 1 (32-bit) nor 2 (64-bit)", 4)
        if data != ELFDATA2LSB:
            self.problem(rules.ENCODING, f"EI_DATA is {data}, not 1 (little endian)", 5)
        if version != EV_CURRENT:
            self.problem(rules.ENCODING, f"EI_VERSION is {version}, not 1", 6)
        if kind not in CLASSES or data != ELFDATA2LSB:
            raise self.stop()
        return CLASSES[kind]

    def header(self, elf: ElfClass) -> ElfHeader:
        raw = self.content.read(IDENT_SIZE, elf.ehdr.size)
        if len(raw) < elf.ehdr.size:
            self.problem(rules.TRUNCATED_HEADER, f"the file has {self.content.size} bytes")
            raise self.stop()
        h = ElfHeader(*elf.ehdr.unpack(raw))
        if h.e_version != EV_CURRENT:
            self.problem(rules.ENCODING, f"e_version is {h.e_version}, not 1")
        if h.e_machine != elf.machine:
            self.problem(rules.MACHINE, f"e_machine is {h.e_machine}, not {elf.machine} as in ELF{elf.bits}")
        if h.e_type not in (ET_EXEC, ET_DYN):
            self.problem(rules.FILE_TYPE, f"e_type is {h.e_type}, neither 2 (ET_EXEC) nor 3 (ET_DYN)")
        if h.e_ehsize != IDENT_SIZE + elf.ehdr.size:
            self.problem(rules.HEADER_SIZES, f"e_ehsize is {h.e_ehsize}, not {IDENT_SIZE + elf.ehdr.size}")
        return h

    def segments(self, elf: ElfClass, h: ElfHeader) -> tuple[Segment, ...]:
        """Every program header, or none if the table cannot be read."""
        if not 0 < h.e_phnum <= MAX_PHDRS:
            self.problem(rules.PHDR_COUNT, f"e_phnum is {h.e_phnum}, not 1 to {MAX_PHDRS}")
            return ()
        if h.e_phentsize != elf.phdr.size:
            self.problem(rules.HEADER_SIZES, f"e_phentsize is {h.e_phentsize}, not {elf.phdr.size}")
            return ()
        size = h.e_phnum * elf.phdr.size
        if h.e_phoff < IDENT_SIZE + elf.ehdr.size or h.e_phoff + size > self.content.size:
            self.problem(
                rules.PHDR_TABLE,
                f"{h.e_phnum} program headers at {h.e_phoff:#x} in a file of {self.content.size:#x} bytes",
            )
            return ()
        table = self.content.read(h.e_phoff, size)
        segments = tuple(elf.segment(table, at) for at in range(0, size, elf.phdr.size))
        self._check_segments(elf, h, segments)
        return segments

    def _check_segments(self, elf: ElfClass, h: ElfHeader, segments: tuple[Segment, ...]) -> None:
        limit = 1 << elf.bits
        loads: list[Segment] = []
        for index, s in enumerate(segments):
            at = h.e_phoff + index * elf.phdr.size
            if s.type == PT_NULL:  # its other members are undefined (gABI chapter 5)
                continue
            if s.filesz and s.file.end > self.content.size:
                self.problem(
                    rules.SEGMENT_FILE,
                    f"segment {index} takes file bytes {s.file} of {self.content.size:#x}",
                    at,
                )
            if s.type != PT_LOAD:
                continue
            if s.filesz > s.memsz:
                self.problem(
                    rules.SEGMENT_SIZE, f"segment {index}: p_filesz {s.filesz:#x} > p_memsz {s.memsz:#x}", at
                )
            wrapped = False
            for field, span in (("p_vaddr", s.virtual), ("p_paddr", s.physical)):
                if span.end > limit:
                    self.problem(rules.ADDRESS_WRAP, f"segment {index}: {field} {span} wraps", at)
                    wrapped = True
            if s.memsz and not wrapped:
                loads.append(s)
        if not any(s.type == PT_LOAD and s.memsz for s in segments):
            self.problem(rules.NO_LOAD, f"none of the {len(segments)} program headers loads anything")
        loads.sort(key=lambda s: s.paddr)
        for lower, upper in pairwise(loads):
            if lower.physical.overlaps(upper.physical):
                self.problem(
                    rules.LOAD_OVERLAP, f"segments at physical {lower.physical} and {upper.physical} overlap"
                )

    def notes(self, segments: tuple[Segment, ...]) -> tuple[Note, ...]:
        """The notes of every PT_NOTE that lies in the file."""
        found: list[Note] = []
        left = MAX_NOTE_BYTES
        for s in segments:
            if s.type != PT_NOTE or s.file.end > self.content.size:
                continue
            left -= s.filesz
            if left < 0:
                text = f"PT_NOTE of {s.filesz:#x} bytes; at most 1 MiB of notes is read"
                self.problem(rules.NOTE_MALFORMED, text, s.offset)
                break
            try:
                found += parse_padded(self.content.read(s.offset, s.filesz), s.offset)
            except NoteError as error:
                self.problem(rules.NOTE_MALFORMED, str(error), s.offset)
        return tuple(found)

    def sections(self, elf: ElfClass, h: ElfHeader) -> list[tuple[int, ...]]:
        """Every section header, or none if the table cannot be read."""
        if not h.e_shoff and not h.e_shnum:
            return []
        if h.e_shnum and h.e_shentsize != elf.shdr.size:
            self.problem(rules.HEADER_SIZES, f"e_shentsize is {h.e_shentsize}, not {elf.shdr.size}")
            return []
        size = h.e_shnum * elf.shdr.size
        first = IDENT_SIZE + elf.ehdr.size
        if h.e_shoff < first or h.e_shoff + size > self.content.size or h.e_shnum > MAX_SHDRS:
            self.problem(
                rules.SHDR_TABLE,
                f"{h.e_shnum} section headers at {h.e_shoff:#x} in a file of {self.content.size:#x} bytes",
            )
            return []
        if h.e_shstrndx >= max(h.e_shnum, 1):
            self.problem(rules.SHDR_TABLE, f"e_shstrndx {h.e_shstrndx} is not one of {h.e_shnum} sections")
        return list(elf.shdr.iter_unpack(self.content.read(h.e_shoff, size)))

    def section_notes(
        self, sections: list[tuple[int, ...]], segments: tuple[Segment, ...]
    ) -> tuple[Note, ...]:
        """The notes of SHT_NOTE sections outside every PT_NOTE; what is malformed there is left out."""
        covered = [s.file for s in segments if s.type == PT_NOTE]
        places = [Span(offset, size) for _, kind, _, _, offset, size, *_ in sections if kind == SHT_NOTE]
        found: list[Note] = []
        left = MAX_NOTE_BYTES
        for place in places[:MAX_NOTE_SECTIONS]:
            left -= place.size
            if left < 0 or place.end > self.content.size or any(span.overlaps(place) for span in covered):
                continue
            covered.append(place)
            with suppress(NoteError):
                found += parse_padded(self.content.read(place.start, place.size), place.start)
        return tuple(found)

    def symbols(self, elf: ElfClass, h: ElfHeader, sections: list[tuple[int, ...]]) -> SymbolTable | None:
        """The symbol table, to be read when it is first asked; its place is checked now. None: stripped."""
        tables = [index for index, section in enumerate(sections) if section[1] == SHT_SYMTAB]
        if not tables:
            return None
        index = tables[0]
        _, _, _, _, offset, length, link, _, _, entsize = sections[index]
        strings = sections[link] if link < len(sections) else None
        reason = ""
        if len(tables) > 1:
            reason = f"{len(tables)} symbol tables, where one is allowed"
        elif strings is None or strings[1] != SHT_STRTAB:
            reason = f"sh_link {link} is no string table"
        elif entsize != elf.sym.size or length % entsize:
            reason = f"{length:#x} bytes of entries of {entsize}, not {elf.sym.size}"
        elif max(offset + length, strings[4] + strings[5]) > self.content.size:
            reason = "the table or its strings lie outside the file"
        elif length // entsize > MAX_SYMBOLS or strings[5] > MAX_STRINGS:
            reason = f"{length // entsize} symbols with {strings[5]} bytes of names are too many"
        if reason or strings is None:
            self.problem(rules.SYMBOL_TABLE, f"section {index}: {reason}", h.e_shoff + index * elf.shdr.size)
            return None
        return SymbolTable(self.content, elf.sym, Span(offset, length), Span(strings[4], strings[5]))


def read_elf(content: Content, name: str) -> ElfImage:
    """Read an ELF image for x86; `name` is how messages call it.

    Contents are not read, but for notes and, when a symbol is first looked up, the symbol table: in a
    stripped file the one that Linux carries for itself.
    Raises InputError (BB-E001 to BB-E016) with every problem at once.
    """
    reader = _Reader(content, name)
    elf = reader.elf_class()
    h = reader.header(elf)
    segments = reader.segments(elf, h)
    notes = reader.notes(segments)
    sections = reader.sections(elf, h)
    table = reader.symbols(elf, h, sections)
    section_notes = reader.section_notes(sections, segments)
    if reader.problems:
        raise reader.stop()
    symbols = table if table is not None else KallsymsSymbols(content, segments, elf.bits)
    return ElfImage(
        name, elf.bits, h.e_machine, h.e_type, h.e_entry, segments, notes, content, symbols, section_notes
    )
