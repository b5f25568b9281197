"""The kernel that is given, and any ELF image as it was read: inert data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bootbuild.model.content import Content
from bootbuild.model.span import Span

# ELF-64 Object File Format 1.5, and System V gABI chapter 5
PT_NULL, PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_PHDR = 0, 1, 2, 4, 6
PF_X, PF_W, PF_R = 1, 2, 4
ET_EXEC, ET_DYN = 2, 3
EM_386, EM_X86_64 = 3, 62


@dataclass(frozen=True)
class Segment:
    """One program header: `offset`/`filesz` in the file, `vaddr`/`paddr`/`memsz` in memory (bytes)."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int

    @property
    def physical(self) -> Span:
        return Span(self.paddr, self.memsz)

    @property
    def virtual(self) -> Span:
        return Span(self.vaddr, self.memsz)

    @property
    def file(self) -> Span:
        return Span(self.offset, self.filesz)


@dataclass(frozen=True)
class Note:
    """One ELF note. `owner` without its NUL; offsets in the file are 0 if it is new."""

    owner: str
    type: int
    desc: bytes
    offset: int = 0  #: of its header
    desc_offset: int = field(default=0, compare=False)  #: of its contents


@dataclass(frozen=True)
class ElfImage:
    """A kernel's ELF file as read: headers in full, contents by reference.

    It may come packed, as in a bzImage or a PE file: then `file` is what a loader reads, and `content` the
    kernel that is in it.
    """

    name: str  #: how messages call it
    bits: int  #: 32 or 64
    machine: int  #: e_machine
    type: int  #: e_type
    entry: int  #: e_entry, virtual
    segments: tuple[Segment, ...]  #: every program header, in file order
    notes: tuple[Note, ...]  #: of all PT_NOTE segments, in file order
    content: Content = field(repr=False, compare=False)
    symbols: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    section_notes: tuple[
        Note, ...
    ] = ()  #: of SHT_NOTE sections that lie in no PT_NOTE, which few loaders read
    packing: Content | None = field(default=None, repr=False, compare=False)  #: the file that it is packed in

    @property
    def file(self) -> Content:
        """The bytes that a loader reads."""
        return self.content if self.packing is None else self.packing

    @property
    def unpacked(self) -> ElfImage:
        """The kernel as a file of its own."""
        return self if self.packing is None else replace(self, packing=None)

    @property
    def loads(self) -> tuple[Segment, ...]:
        """The PT_LOAD segments that take up memory."""
        return tuple(s for s in self.segments if s.type == PT_LOAD and s.memsz)

    @property
    def physical_end(self) -> int:
        """First physical address after every PT_LOAD; 0 without one."""
        return max((s.physical.end for s in self.loads), default=0)

    @property
    def xen_notes(self) -> tuple[Note, ...]:
        """Notes of owner Xen: of PT_NOTEs or, without any there, of sections (libelf's elf_xen_parse)."""
        found = tuple(note for note in self.notes if note.owner == "Xen")
        return found or tuple(note for note in self.section_notes if note.owner == "Xen")

    def segment_at(self, vaddr: int) -> Segment | None:
        """The PT_LOAD that holds virtual address `vaddr`."""
        return next((s for s in self.loads if vaddr in s.virtual), None)


@dataclass(frozen=True)
class Startup:
    """The kernel's shared startup path, which every entry must reach."""

    name: str  #: the symbol, or the address in hex
    vaddr: int  #: as linked
    paddr: int  #: where it is loaded
    width: int  #: 32 or 64: the CPU mode that its code is for; 0: whichever it is reached in
    entered_at: Literal["linked", "physical"] = "linked"  #: as its guest protocol has it (`Guest.entered_at`)
    load_offset: int = 0  #: bytes by which the payload lies above where it was linked, modulo 2^64

    @property
    def moved(self) -> int:
        """`load_offset` as a number that may be negative."""
        return self.load_offset - (1 << 64) if self.load_offset >> 63 else self.load_offset

    @property
    def linked(self) -> bool:
        """Whether it runs where it is linked; without paging, at width 32, nothing does."""
        return self.width == 64 and self.entered_at == "linked"

    @property
    def address(self) -> int:
        """Where the CPU's instruction pointer stands there."""
        return self.vaddr if self.linked else self.paddr


@dataclass(frozen=True)
class Words:
    """Where a kernel holds addresses of itself: each has to change by as much as the kernel is moved."""

    places: Sequence[int] = field(default=(), repr=False)  #: physical addresses, in no order
    size: int = 8  #: bytes of each: 4 or 8


@dataclass(frozen=True)
class Module:
    """A file that is loaded beside the kernel."""

    name: str
    content: Content = field(repr=False, compare=False)
    cmdline: bytes = b""


@dataclass(frozen=True)
class Payload:
    """The kernel of a recipe, ready to be built from."""

    elf: ElfImage
    source: str  #: path of the file that was named
    format: str  #: "elf", "bzimage (lz4)" …: what that file was
    digest: str  #: SHA-256 of the named file, hex
    guest: str  #: handover protocol that the startup path speaks
    startup: Startup
    cmdline: bytes = b""
    modules: tuple[Module, ...] = ()
    repair: bool = True  #: whether notes on which loaders disagree may be rewritten
    changes: tuple[str, ...] = ()  #: what was done to the file before anything was added, in words
    addresses: Words | None = None  #: None: nobody knows all of them, so that it cannot be moved
