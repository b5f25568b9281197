"""What a target adds to an image. A container lays it out; a target never does."""

from __future__ import annotations

from dataclasses import dataclass, field

from bootbuild.model.blob import Blob
from bootbuild.model.payload import Startup
from bootbuild.model.span import Span
from bootbuild.model.waist import Piece


@dataclass(frozen=True)
class AddressOf:
    """A note's contents that are known once the stubs are placed: a physical address, little endian."""

    symbol: str
    size: int = 4  #: bytes: 4 or 8
    offset: int = 0  #: added to it: with the VA-PA difference of the startup path it is where that maps it


@dataclass(frozen=True)
class NoteSpec:
    """A note to be written; `owner` without NUL."""

    owner: str
    type: int
    desc: bytes | AddressOf


@dataclass(frozen=True)
class Contribution:
    """One target's part of an image.

    With no chain the payload's own entry is used as it is; with `own_entry` the chain runs first, leaves the
    machine as it found it, and claims no handover.
    """

    target: str
    guest: str
    container: str  #: which container can hold it: "elf" (`bootbuild.containers.NAMES`)
    startup: Startup
    chain: tuple[Piece, ...] = ()
    companions: tuple[Blob, ...] = ()  #: stubs beside the chain, which pieces refer to (post stub)
    notes: tuple[NoteSpec, ...] = ()  #: they take the place of the payload's own of the same type
    own_entry: int | None = None  #: physical; the payload's entry to which a chain that restores all goes on

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
class Layout:
    """Everything that a container adds to the payload's file, and nothing else."""

    segments: tuple[PlacedSegment, ...]
    notes: bytes = field(repr=False)  #: the whole new PT_NOTE, b"" to leave the payload's alone
    entries: tuple[tuple[str, int], ...]  #: (target, physical address of its inserted entry)
    stub: Span = Span(0, 0)  #: physical range that the guest keeps until it is done with the record
    repairs: tuple[str, ...] = ()  #: what was wrong with the payload's notes and is not with `notes`
