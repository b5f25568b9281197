"""Xen's ELF reader, which its dom0 builder and its toolstack share: a file by pointers that wrap.

Follows xen/common/libelf/libelf-{tools,loader}.c of Xen 4.17.7. Pointers are C's: 64 bits that wrap, from the
base where the program has mapped the file. A read outside the file gives 0 and marks the file "broken",
which is told but refuses nothing by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from bootbuild.api import Content
from bootbuild_loaders import rules
from bootbuild_loaders.window import Window

M64 = (1 << 64) - 1
UNSET, UNSET32 = M64, (1 << 32) - 1  #: UNSET_ADDR, UNSET_ADDR32
ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB = 1, 2, 1, 2
EM_386, EM_ARM, EM_X86_64 = 3, 40, 62
PT_LOAD, PT_NOTE, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 1, 4, 2, 3, 7
SHDR32 = 40  #: sizeof(Elf32_Shdr)
STRING_MAX, NOTES_MAX = 4096, 65536  #: ELF_MAX_STRING_LENGTH, ELF_MAX_TOTAL_NOTE_COUNT

#: field → (offset, size) in the 64-bit form, then in the 32-bit form: gABI, ELF Header and so on
EHDR = {
    "e_machine": ((18, 2), (18, 2)),
    "e_entry": ((24, 8), (24, 4)),
    "e_phoff": ((32, 8), (28, 4)),
    "e_shoff": ((40, 8), (32, 4)),
    "e_phentsize": ((54, 2), (42, 2)),
    "e_phnum": ((56, 2), (44, 2)),
    "e_shentsize": ((58, 2), (46, 2)),
    "e_shnum": ((60, 2), (48, 2)),
    "e_shstrndx": ((62, 2), (50, 2)),
}
PHDR = {
    "p_type": ((0, 4), (0, 4)),
    "p_flags": ((4, 4), (24, 4)),
    "p_offset": ((8, 8), (4, 4)),
    "p_paddr": ((24, 8), (12, 4)),
    "p_filesz": ((32, 8), (16, 4)),
    "p_memsz": ((40, 8), (20, 4)),
}
SHDR = {
    "sh_name": ((0, 4), (0, 4)),
    "sh_type": ((4, 4), (4, 4)),
    "sh_offset": ((24, 8), (16, 4)),
    "sh_size": ((32, 8), (20, 4)),
    "sh_link": ((40, 4), (24, 4)),
}
NOTE_SIZE = 12


class Refused(Exception):
    """The parser's answer is no; `message` in its own words, "" where it says nothing."""

    def __init__(self, rule: str, message: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


@dataclass(frozen=True)
class XenNote:
    """One note of owner "Xen": its type, and where its contents are."""

    type: int
    desc: int  #: pointer
    descsz: int


@dataclass(frozen=True)
class NoteRun:
    """The notes between two pointers: how many there are, and Xen's own with their places among them."""

    count: int
    xen: tuple[tuple[int, XenNote], ...]
    over: bool  #: there are more than are ever counted


class Binary:
    """`struct elf_binary`: a file that the parser has taken in. Raises Refused as elf_init does."""

    def __init__(self, content: Content, base: int) -> None:
        self.window = Window(content)
        self.size = content.size
        self.base = base
        self.broken = ""
        ident = self.window.get(0, 16)
        if self.size < 52 or ident[:4] != b"\x7fELF":  # sizeof(Elf32_Ehdr)
            raise Refused(rules.NOT_A_KERNEL, "ELF: not an ELF binary")
        self.form = 0 if ident[4] == ELFCLASS64 else 1  #: any other class is read as ELF32
        self.klass, self.data = ident[4], ident[5]
        self._order: str = "little" if self.data == ELFDATA2LSB else "big"
        self.runs: dict[tuple[int, int], NoteRun] = {}
        self.ehdr = {name: self._field(base, EHDR[name]) for name in EHDR}
        for what, offset, count in (("ph", "e_phoff", "e_phnum"), ("sh", "e_shoff", "e_shnum")):
            entries = self.shdr_count if what == "sh" else self.ehdr[count]
            end = (self.ehdr[offset] + self.ehdr[f"e_{what}entsize"] * entries) & M64
            if end > self.size:
                text = f"ELF: {what}dr overflow (off {end:x} > size {self.size:x})"
                raise Refused(rules.HEADERS_OUTSIDE, text)
        index = self.ehdr["e_shstrndx"]
        self.sec_strtab = self.section_start(self._shdr(index)) if index < self.shdr_count else 0
        self.sym_tab = self._symbol_table()
        self._bounds()

    @property
    def is_64(self) -> bool:
        return self.klass == ELFCLASS64

    @property
    def is_32(self) -> bool:
        return self.klass == ELFCLASS32

    def mark(self, why: str) -> None:
        """elf_mark_broken: the first reason stays."""
        self.broken = self.broken or why

    def access_ok(self, at: int, size: int) -> bool:
        """Whether the file has these bytes; it is broken if not."""
        offset = (at - self.base) & M64
        if offset <= self.size and size <= self.size - offset:
            return True
        self.mark("out of range access")
        return False

    def read(self, at: int, size: int) -> int:
        """elf_access_unsigned: 0 outside the file."""
        if not self.access_ok(at & M64, size):
            return 0
        raw = self.window.get((at - self.base) & M64, size)
        return int.from_bytes(raw, "little" if self._order == "little" else "big")

    def string(self, at: int) -> bytes | None:
        """elf_strval: up to the NUL; None (and broken) where there is none within reach."""
        offset = (at - self.base) & M64
        found = self.window.string(offset, STRING_MAX + 1)
        if found is None:
            inside = len(self.window.get(offset, STRING_MAX + 1)) == STRING_MAX + 1
            self.mark("excessively long string" if inside else "out of range access")
        return found

    def _field(self, at: int, forms: tuple[tuple[int, int], tuple[int, int]]) -> int:
        offset, size = forms[self.form]
        return self.read(at + offset, size)

    @cached_property
    def shdr_count(self) -> int:
        count = self.ehdr["e_shnum"]
        if count > self.size // SHDR32:
            self.mark("far too many section headers")
            count = self.size // SHDR32
        return count

    def _shdr(self, index: int) -> int:
        return (self.base + self.ehdr["e_shoff"] + self.ehdr["e_shentsize"] * index) & M64

    def section(self, at: int, name: str) -> int:
        """A field of the section header at pointer `at`."""
        return self._field(at, SHDR[name])

    def section_start(self, at: int) -> int:
        return (self.base + self.section(at, "sh_offset")) & M64

    @cached_property
    def phdrs(self) -> tuple[dict[str, int], ...]:
        """The program headers, up to the first that is outside the file."""
        found = []
        seen: dict[int, dict[str, int]] = {}
        for index in range(self.ehdr["e_phnum"]):
            at = (self.base + self.ehdr["e_phoff"] + self.ehdr["e_phentsize"] * index) & M64
            if at not in seen:
                if not self.access_ok(at, 1):
                    break
                seen[at] = {name: self._field(at, PHDR[name]) for name in PHDR}
            found.append(seen[at])
        return tuple(found)

    @cached_property
    def sections(self) -> list[int]:
        """Pointers to the section headers from 1 on, up to the first that is outside the file."""
        found = []
        for index in range(1, self.shdr_count):
            at = self._shdr(index)
            if not self.access_ok(at, 1):
                break
            found.append(at)
        return found

    def _symbol_table(self) -> int:
        for at in self.sections:
            if self.section(at, "sh_type") != SHT_SYMTAB:
                continue
            return at if 0 < self.section(at, "sh_link") < self.shdr_count else 0
        return 0

    @cached_property
    def loads(self) -> list[dict[str, int]]:
        """What elf_phdr_is_loadable takes: PT_LOAD with any of the three flags."""
        return [ph for ph in self.phdrs if ph["p_type"] == PT_LOAD and ph["p_flags"] & 7]

    def _bounds(self) -> None:
        """elf_parse_binary: from p_paddr and p_memsz alone."""
        loads = self.loads
        self.pstart = min((ph["p_paddr"] for ph in loads), default=M64)
        self.pend = max((ph["p_paddr"] + ph["p_memsz"] & M64 for ph in loads), default=0)

    def notes(self, start: int, end: int) -> NoteRun:
        """Walk the notes as elf_note_next does: padded to 4, whatever p_align says."""
        key = (start, end)
        if key not in self.runs:
            self.runs[key] = self._walk(start, end)
        return self.runs[key]

    def _walk(self, start: int, end: int) -> NoteRun:
        at, count = start, 0
        xen: list[tuple[int, XenNote]] = []
        while at < end:
            if count == NOTES_MAX:
                return NoteRun(count, tuple(xen), over=True)
            count += 1
            namesz, descsz = self.read(at, 4), self.read(at + 4, 4)
            desc = at + NOTE_SIZE + (namesz + 3 & ~3 & UNSET32) & M64
            if self.string(at + NOTE_SIZE & M64) == b"Xen":
                xen.append((count, XenNote(self.read(at + 8, 4), desc, descsz)))
            after = desc + (descsz + 3 & ~3 & UNSET32) & M64
            if after <= at or not self.access_ok(at, 1):
                break
            at = after
        return NoteRun(count, tuple(xen), over=False)

    def number(self, note: XenNote) -> int:
        """elf_note_numeric: 0 for any size but 1, 2, 4 and 8."""
        return self.read(note.desc, note.descsz) if note.descsz in (1, 2, 4, 8) else 0
