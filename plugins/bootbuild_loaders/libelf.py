"""Xen's ELF parser, which its dom0 builder and its toolstack share: headers, notes, bounds.

Follows xen/common/libelf/libelf-{tools,loader,dominfo}.c of Xen 4.17.7. Pointers are C's: 64 bits that wrap,
from the base where the program has mapped the file. A read outside the file gives 0 and marks the file
"broken", which is told but refuses nothing by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
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

# xen/include/public/features.h; elf_xen_feature_names knows these alone
FEATURES = {
    b"writable_page_tables": 0,
    b"writable_descriptor_tables": 1,
    b"auto_translated_physmap": 2,
    b"supervisor_mode_kernel": 3,
    b"pae_pgdir_above_4gb": 4,
    b"hvm_callback_vector": 8,
    b"dom0": 11,
}
XENFEAT_DOM0 = 11

# xen/include/public/elfnote.h
ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, XEN_VERSION, GUEST_OS, GUEST_VERSION = range(1, 8)
LOADER, PAE_MODE, NOTE_FEATURES, BSD_SYMTAB, HV_START_LOW = range(8, 13)
SUSPEND_CANCEL, INIT_P2M, MOD_START_PFN, SUPPORTED_FEATURES, PHYS32_ENTRY = range(14, 19)
STRINGS = frozenset({XEN_VERSION, GUEST_OS, GUEST_VERSION, LOADER, PAE_MODE, NOTE_FEATURES, BSD_SYMTAB})
NUMBERS = {
    ENTRY: "virt_entry",
    HYPERCALL_PAGE: "virt_hypercall",
    VIRT_BASE: "virt_base",
    PADDR_OFFSET: "paddr_offset",
    HV_START_LOW: "virt_hv_start_low",
    INIT_P2M: "p2m_base",
    MOD_START_PFN: "mod_start_pfn",
    SUSPEND_CANCEL: "suspend_cancel",
}


class Refused(Exception):
    """The parser's answer is no; `message` in its own words, "" where it says nothing."""

    def __init__(self, rule: str, message: str = "") -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


@dataclass
class Parms:
    """`struct elf_dom_parms`: what the notes say, and what was computed from them."""

    strings: dict[int, bytes] = field(default_factory=dict)  #: by note type, as the 16-byte buffers keep them
    pae: str = ""  #: "extended-cr3", "yes", "bimodal"
    bsd_symtab: bool = False
    mod_start_pfn: int = 0
    suspend_cancel: int = 0
    virt_base: int = UNSET
    virt_entry: int = UNSET
    virt_hypercall: int = UNSET
    virt_hv_start_low: int = UNSET
    p2m_base: int = UNSET
    paddr_offset: int = UNSET
    phys_entry: int = UNSET32
    supported: int = 0
    required: int = 0
    noted_features: bool = False  #: note SUPPORTED_FEATURES was there
    noted: bool = False  #: elf_note_start is set: a note segment was looked at, whosever its notes are
    guest_info: bool = False
    virt_kstart: int = 0
    virt_kend: int = 0


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


def parse(elf: Binary, hvm: bool) -> Parms:
    """elf_xen_parse: find the notes, check them, compute the addresses. Raises Refused."""
    parms = Parms()
    _find_notes(elf, parms, hvm)
    _check_notes(elf, parms, hvm)
    _check_addresses(elf, parms, hvm)
    return parms


def _find_notes(elf: Binary, parms: Parms, hvm: bool) -> None:
    total = found = 0
    for ph in elf.phdrs:
        if ph["p_type"] == PT_NOTE and ph["p_offset"]:
            start = elf.base + ph["p_offset"] & M64
            total, more = _parse_notes(elf, parms, start, start + ph["p_filesz"] & M64, total)
            found += more
    if not found:
        for at in elf.sections:
            if elf.section(at, "sh_type") == SHT_NOTE:
                start = elf.section_start(at)
                end = start + elf.section(at, "sh_size") & M64
                total, more = _parse_notes(elf, parms, start, end, total)
                found += more
    if not found and not hvm:
        for at in elf.sections:
            name = elf.string(elf.sec_strtab + elf.section(at, "sh_name") & M64) if elf.sec_strtab else None
            if name == b"__xen_guest":
                parms.guest_info, parms.noted = True, False
                _parse_guest_info(elf, parms, elf.section_start(at))
                break


def _parse_notes(elf: Binary, parms: Parms, start: int, end: int, total: int) -> tuple[int, int]:
    """Take the notes between two pointers in; (notes seen in the whole file, Xen's own here)."""
    parms.noted = bool(start)
    run = elf.notes(start, end)
    room = NOTES_MAX - total
    if run.over or run.count > room:
        elf.mark("too many ELF notes")
    xen = [note for place, note in run.xen if place <= room]
    for note in xen:
        _parse_note(elf, parms, note)
    return min(NOTES_MAX, total + run.count), len(xen)


def _parse_note(elf: Binary, parms: Parms, note: XenNote) -> None:
    if note.type in STRINGS:
        text = elf.string(note.desc)
        if text is not None:
            _take_string(parms, note.type, text)
    elif note.type in NUMBERS:
        setattr(parms, NUMBERS[note.type], elf.number(note))
    elif note.type == PHYS32_ENTRY:
        parms.phys_entry = elf.number(note) & UNSET32
    elif note.type == SUPPORTED_FEATURES:
        parms.noted_features = True
        if note.descsz and not note.descsz % 4:  # one submap is all that there is: XENFEAT_NR_SUBMAPS
            parms.supported |= elf.read(note.desc, 4)


def _take_string(parms: Parms, kind: int, text: bytes) -> None:
    if kind == PAE_MODE:
        if text == b"yes":
            parms.pae = "extended-cr3"
        if b"bimodal" in text:
            parms.pae = "bimodal"
    elif kind == BSD_SYMTAB:
        parms.bsd_symtab = parms.bsd_symtab or text == b"yes"
    elif kind == NOTE_FEATURES:
        _take_features(parms, text)
    else:
        parms.strings[kind] = text[:15]  # safe_strcpy into char[16]


def _take_features(parms: Parms, text: bytes) -> None:
    """elf_xen_parse_features: words of up to 63 bytes; an unknown one with `!` ends the parse, silently."""
    at = 0
    while at < len(text):
        end = text.find(b"|", at, at + 63)
        word = text[at:end] if end >= 0 else text[at : at + 63]
        at = end + 1 if end >= 0 else at + len(word)
        bit = FEATURES.get(word.removeprefix(b"!"))
        if bit is not None:
            parms.supported |= 1 << bit
            parms.required |= 1 << bit if word.startswith(b"!") else 0
        elif word.startswith(b"!"):
            raise Refused(rules.UNKNOWN_FEATURE)


def _parse_guest_info(elf: Binary, parms: Parms, at: int) -> None:
    """The section of the days before notes: NAME=VALUE, separated by commas (elf_xen_parse_guest_info)."""
    text = elf.window.get((at - elf.base) & M64, 1 << 16)
    end = text.find(0)
    if end < 0:
        elf.mark("out of range access")
    for name, value in _pairs(text[: end if end >= 0 else None]):
        if name in (b"LOADER", b"GUEST_OS", b"XEN_VER"):
            kind = {b"LOADER": LOADER, b"GUEST_OS": GUEST_OS, b"XEN_VER": XEN_VERSION}[name]
            parms.strings[kind] = value[:15]
        elif name == b"PAE" and value == b"yes[extended-cr3]":
            parms.pae = "extended-cr3"
        elif name == b"PAE" and value.startswith(b"yes"):
            parms.pae = "yes"
        elif name == b"BSD_SYMTAB":
            parms.bsd_symtab = True
        elif name in (b"VIRT_BASE", b"VIRT_ENTRY", b"ELF_PADDR_OFFSET"):
            attribute = {b"VIRT_BASE": "virt_base", b"VIRT_ENTRY": "virt_entry"}.get(name, "paddr_offset")
            setattr(parms, attribute, strtoull(value))
        elif name == b"HYPERCALL_PAGE":
            parms.virt_hypercall = strtoull(value) << 12 & M64
        elif name == b"FEATURES":
            try:
                _take_features(parms, value)
            except Refused:
                break  # this caller ignores what its parser returns
    if UNSET not in (parms.virt_base, parms.virt_hypercall):
        parms.virt_hypercall = parms.virt_hypercall + parms.virt_base & M64


def _pairs(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and value, cut where the buffers of 32 and 128 bytes are full; the rest begins a new pair."""
    at = 0
    while at < len(text):
        name = re.match(rb"[^,=]{0,31}", text[at:])
        assert name is not None  # it matches nothing, too
        at += name.end()
        value = b""
        if name.end() < 31 and text[at : at + 1] == b"=":
            found = re.match(rb"[^,]{0,127}", text[at + 1 :])
            assert found is not None
            value = found[0]
            at += 1 + len(value)
            full = len(value) == 127
        else:
            full = name.end() == 31
        if not full and text[at : at + 1] == b",":
            at += 1
        yield name[0], value


def strtoull(text: bytes) -> int:
    """C's strtoull with base 0: the digits at the beginning, 0 if there are none, saturated."""
    text = text.strip(b" \t\n\v\f\r")
    minus, text = text[:1] == b"-", text.lstrip(b"+-") if text[:1] in (b"+", b"-") else text
    base, digits = (16, text[2:]) if text[:2].lower() == b"0x" else (8 if text[:1] == b"0" else 10, text)
    allowed = b"0123456789abcdefABCDEF" if base == 16 else b"0123456789"[:base]
    length = next((i for i, byte in enumerate(digits) if byte not in allowed), len(digits))
    value = min(int(digits[:length] or b"0", base), M64)
    return -value & M64 if minus and value != M64 else value


def _check_notes(elf: Binary, parms: Parms, hvm: bool) -> None:
    """elf_xen_note_check."""
    machine = elf.ehdr["e_machine"]
    if not parms.noted and not parms.guest_info:
        if machine in (EM_386, EM_X86_64):
            text = "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found"
            raise Refused(rules.NO_NOTES, text)
        return
    if machine == EM_ARM or (parms.phys_entry != UNSET32 and hvm):
        return
    loader, system = parms.strings.get(LOADER, b""), parms.strings.get(GUEST_OS, b"")
    if not loader.startswith(b"generic") and not system.startswith(b"linux"):
        text = (
            "ERROR: Will only load images built for the generic loader or Linux images "
            f"(Not '{shown(loader)}' and '{shown(system)}') or with PHYS32_ENTRY set"
        )
        raise Refused(rules.LOADER_NOTE, text)
    version = parms.strings.get(XEN_VERSION, b"")
    if not version.startswith(b"xen-3.0"):
        text = f"ERROR: Xen will only load images built for Xen v3.0 (Not '{shown(version)}')"
        raise Refused(rules.XEN_VERSION, text)


def _check_addresses(elf: Binary, parms: Parms, hvm: bool) -> None:
    """elf_xen_addr_calc_check."""
    if parms.paddr_offset != UNSET and parms.virt_base == UNSET:
        raise Refused(rules.VIRT_BASE_UNSET, "ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset")
    if hvm or parms.virt_base == UNSET:
        parms.virt_base = 0
    if hvm or parms.paddr_offset == UNSET:
        parms.paddr_offset = 0 if parms.noted or hvm else parms.virt_base
    offset = parms.virt_base - parms.paddr_offset
    parms.virt_kstart, parms.virt_kend = elf.pstart + offset & M64, elf.pend + offset & M64
    if hvm and parms.phys_entry != UNSET32:
        parms.virt_entry = parms.phys_entry
    elif hvm or parms.virt_entry == UNSET:
        parms.virt_entry = elf.ehdr["e_entry"]
    if parms.bsd_symtab:
        end = _symbols_end(elf)
        parms.virt_kend = end + offset & M64 if end else parms.virt_kend
    start, end, entry = parms.virt_kstart, parms.virt_kend, parms.virt_entry
    if start > end or not start <= entry <= end or parms.virt_base > start:
        raise Refused(rules.OUT_OF_BOUNDS, "ERROR: ELF start or entries are out of bounds")
    if parms.p2m_base != UNSET and start <= parms.p2m_base < end:
        raise Refused(rules.P2M_BOUNDS, "ERROR: P->M table base is out of bounds")


def _symbols_end(elf: Binary) -> int:
    """elf_parse_bsdsyms: where symbol and string table would end behind the kernel; 0 without them."""
    if not elf.sym_tab:
        elf.mark("invalid ELF handle for symtab section")
        return 0
    unit = 8 if elf.is_64 else 4

    def up(value: int) -> int:
        return (value + unit - 1) & ~(unit - 1) & M64

    size = up(4 + 68 + 3 * (64 if elf.is_64 else SHDR32))  # struct elf_sym_header up to its sections
    size = up(size + elf.section(elf.sym_tab, "sh_size"))
    link = elf.section(elf.sym_tab, "sh_link")
    strings = elf.base + elf.ehdr["e_shoff"] + elf.ehdr["e_shentsize"] * link & M64
    if not elf.access_ok(strings, 1) or elf.section(strings, "sh_type") != SHT_STRTAB:
        return 0
    return up(elf.pend) + up(size + elf.section(strings, "sh_size")) & M64


def shown(text: bytes) -> str:
    """A note's string in a message."""
    return text.decode("latin-1")
