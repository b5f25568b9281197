"""What a target adds to an image. A container lays it out; a target never does."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from bootbuild.model.blob import Blob
from bootbuild.model.content import Content
from bootbuild.model.payload import Startup, Words
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span
from bootbuild.model.waist import Piece


@dataclass(frozen=True)
class AddressOf:
    """What of a note or header is known once the stubs are placed: a physical address, little endian."""

    symbol: str
    size: int = 4  #: bytes: 4 or 8
    offset: int = 0  #: added to it: with the VA-PA difference of the startup path it is where that maps it


class Loaded(Enum):
    """What a header says of a file that is loaded as one piece, from the header on: 4 bytes, little endian.

    Physical. A header with such a field makes the container lay the file out as memory is.
    """

    START = "start"  #: where the header is loaded
    END = "end"  #: the end of the file's bytes
    BSS_END = "bss_end"  #: the end of the zeros behind them


@dataclass(frozen=True)
class NoteSpec:
    """A note to be written; `owner` without NUL."""

    owner: str
    type: int
    desc: bytes | AddressOf


@dataclass(frozen=True)
class HeaderSpec:
    """A header that a loader searches for at the start of the file; it need not be loaded.

    Its first four bytes are what is searched for, at multiples of `align`: nothing like them comes before.
    """

    data: bytes
    align: int
    limit: int  #: bytes from the start of the file in which all of it lies
    fields: tuple[tuple[int, AddressOf | Loaded], ...] = ()  #: what is filled in, by its offset in `data`

    @property
    def flat(self) -> bool:
        """Whether its loader reads the file as one piece, and not as ELF."""
        return any(isinstance(field, Loaded) for _, field in self.fields)


@dataclass(frozen=True)
class Shadow:
    """A profile of another target whose program would start the image by this target instead."""

    profile: str
    rule: Rule
    reason: str


@dataclass(frozen=True)
class BzimageSpec:
    """What makes a bzImage of a kernel with stubs (Linux Documentation/arch/x86/boot.rst)."""

    setup: Blob  #: the real-mode code, with a setup header in which nothing is missing but sizes and `fields`
    head: Piece  #: the protected-mode code, which unpacks the kernel and goes on at its first stub
    compress: str = ""  #: "lz4", or "" to store the kernel as it is


@dataclass(frozen=True)
class Application:
    """What a PE file has beside payload and chain: the stub that firmware enters, wherever it loaded it.

    It is position independent, finds `struct plan` as `bb_efi_plan`, brings everything to its place and
    enters the chain.
    """

    stub: Piece
    flags: int = 0  #: of the plan; the stub's own
    sections: tuple[tuple[str, Content], ...] = ()  #: read-only, by name (at most 8 bytes), in this order
    grain: int = 0  #: bytes: by a multiple of that it may move everything from its place; 0: it may not


@dataclass(frozen=True)
class Contribution:
    """One target's part of an image.

    With no chain the payload's own entry is used as it is; with `own_entry` the chain runs first, leaves the
    machine as it found it, and claims no handover. A target that is entered in more ways than one has the
    chains of all in `chain`, one behind another: each begins with a front, the first with that of the entry.
    """

    target: str
    guest: str
    container: str  #: which can hold it: "elf", "bzimage", "pe" (`bootbuild.containers.NAMES`)
    startup: Startup
    chain: tuple[Piece, ...] = ()
    companions: tuple[Blob, ...] = ()  #: stubs beside the chain, which pieces refer to (post stub)
    notes: tuple[NoteSpec, ...] = ()  #: they take the place of the payload's own of the same type
    own_entry: int | None = None  #: physical; the payload's entry to which a chain that restores all goes on
    headers: tuple[HeaderSpec, ...] = ()
    search: int = 0  #: bytes that its loader reads of the file to find program headers; 0: it seeks them
    entry_point: str = ""  #: symbol at which e_entry has to stand, where its loader knows no other entry
    physical_entry: bool = False  #: whether that loader takes e_entry for a physical address
    elf_class: int | None = None  #: 32 or 64: the only one that its loader takes
    shadows: tuple[Shadow, ...] = ()
    bzimage: BzimageSpec | None = None  #: of an inserted entry in container "bzimage"
    setup_header: tuple[tuple[str, int], ...] = ()  #: fields by name that are written into it
    addresses: Words | None = None  #: the payload's: its loader may move the image, and a stub mends them
    application: Application | None = None  #: of container "pe"; without one the payload's file is kept

    @property
    def hands_over(self) -> bool:
        """Whether stubs of ours make the handover at the startup path."""
        return bool(self.chain) and self.own_entry is None


@dataclass(frozen=True)
class PlacedSegment:
    """A segment that bootbuild added: addresses and bytes final."""

    flags: int  #: PF_R | PF_W | PF_X
    vaddr: int
    paddr: int
    data: bytes = field(repr=False)  #: file bytes; empty for NOBITS
    memsz: int = 0

    @property
    def physical(self) -> Span:
        return Span(self.paddr, self.memsz)


@dataclass(frozen=True)
class PlacedHeader:
    """A header in its place, bytes final."""

    offset: int  #: in the file
    spec: HeaderSpec
    data: bytes = field(repr=False)

    @property
    def file(self) -> Span:
        return Span(self.offset, len(self.data))


@dataclass(frozen=True)
class Relaid:
    """The payload's file made anew: for room at its start that it lacks, or in another class."""

    bits: int  #: 32 or 64: its class. Where that is not the payload's, each p_vaddr is p_paddr
    room: int  #: bytes free behind the program headers
    flat: bool = False  #: what is loaded lies in the file as it does in memory, with zeros between


@dataclass(frozen=True)
class PlacedSection:
    """A section of a PE file in its place: addresses relative to where the file is loaded, bytes final."""

    name: str
    flags: int  #: Characteristics
    address: int  #: VirtualAddress
    size: int  #: VirtualSize
    content: Content | None = field(repr=False)  #: its `size` bytes; None: zeros that are not in the file

    @property
    def memory(self) -> Span:
        return Span(self.address, self.size)


@dataclass(frozen=True)
class Layout:
    """Everything that a container adds to the payload's file, and nothing else."""

    segments: tuple[PlacedSegment, ...]
    notes: bytes = field(repr=False)  #: the whole new PT_NOTE, b"" to leave the payload's alone
    entries: tuple[tuple[str, int], ...]  #: (target, physical address of its inserted entry)
    stub: Span = Span(0, 0)  #: physical range that the guest keeps until it is done with the record
    repairs: tuple[str, ...] = ()  #: what was wrong with the payload's notes and is not with `notes`
    headers: tuple[PlacedHeader, ...] = ()
    table: int = 0  #: file offset of the program header table; 0: behind the payload
    relaid: Relaid | None = None  #: None: the payload's bytes stay where they are in the file
    entry_point: int | None = None  #: e_entry, or a PE's AddressOfEntryPoint; None: the payload's own
    sections: tuple[PlacedSection, ...] = ()  #: all of a PE file, in file and memory order
    bzimage: BzimageSpec | None = None  #: what packs the ELF file that all of the above makes
    setup_header: tuple[tuple[str, int], ...] = ()  #: fields of a bzImage's header
