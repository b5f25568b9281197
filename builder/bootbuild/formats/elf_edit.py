"""Adding segments to an ELF file with LIEF, which never sees the payload's bytes.

LIEF as it comes makes kernels that Xen refuses: it wraps the moved program header table in a PT_LOAD at
a physical address that does not exist, rounds sizes, rewrites string tables, and holds the file several
times over. So it edits a *skeleton*: header, one stand-in for each program header that stays, nothing
else. The tail that LIEF makes (table, segments, notes) is then appended to the untouched payload, and
structs restore what the stand-ins stood for. `containers/verify.py` checks the result with other code.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bootbuild.errors import Problem, VerificationError
from bootbuild.formats import rules
from bootbuild.formats.elf_structs import IDENT_SIZE, ElfClass, ElfHeader, header
from bootbuild.model.payload import (
    ET_EXEC,
    PF_R,
    PF_W,
    PF_X,
    PT_LOAD,
    PT_NOTE,
    PT_NULL,
    PT_PHDR,
    ElfImage,
    Segment,
)
from bootbuild.model.span import Span, align_up

if TYPE_CHECKING:
    import lief

PAGE = 0x1000
NOTE_ALIGN = 4  #: QEMU dies of 0 and misreads 8 (hw/elf_ops.h.inc); all loaders agree on 4
AT_ONCE = 8  #: LIEF keeps room for nine program headers when it moves the table of an ET_EXEC
_STAND_IN = 16  #: bytes of a stand-in
_STAND_IN_BASE = 0x10000  #: addresses of stand-ins; LIEF looks at no others


@dataclass(frozen=True)
class NewSegment:
    """A program header to be added, with its bytes. `memsz` beyond them is zero-filled by the loader."""

    type: int
    flags: int
    vaddr: int
    paddr: int
    data: bytes
    memsz: int
    align: int
    offset: int | None = None  #: in the file, behind the payload's bytes and ascending; None: behind the last


@dataclass(frozen=True)
class Edit:
    """An edited file: the payload's bytes with the first `len(head)` replaced, zeros up to `at`, `tail`."""

    head: bytes
    at: int
    tail: bytes


def note_segment(notes: bytes) -> NewSegment:
    """The one PT_NOTE: in the file only, since every loader reads notes there."""
    return NewSegment(PT_NOTE, PF_R, 0, 0, notes, len(notes), NOTE_ALIGN)


def add_segments(image: ElfImage, new: Sequence[NewSegment], entry: int, table: int = 0) -> Edit:
    """Add `new` to the image and set e_entry.

    Every program header but PT_NOTE, PT_PHDR and PT_NULL stays as it is; a new PT_NOTE is thus the only
    one. The table moves behind the payload's bytes, in no PT_LOAD, or to the file offset `table`, where
    there must be room for it (`elf_front.first_room`); what was the table is then zeros.

    Where a PT_LOAD covers the ELF header, its first page is loaded from a copy, so that the guest finds in
    memory the header that it was linked with, and the table behind it. Raises VerificationError (BB-W010)
    when LIEF does not do what it is asked.
    """
    elf, old = header(image.content)
    dropped = {PT_NULL, PT_PHDR} | ({PT_NOTE} if any(s.type == PT_NOTE for s in new) else set())
    kept: list[Segment] = []
    copies: dict[int, NewSegment] = {}  # by index in `kept`
    for s in image.segments:
        if s.type == PT_LOAD and s.filesz and s.offset < IDENT_SIZE + elf.ehdr.size:
            first, *rest = _apart(s, IDENT_SIZE + elf.ehdr.size)
            copies[len(kept)] = _copy(image, first)
            kept += [first, *rest]
        elif s.type not in dropped:
            kept.append(s)
    added = [*copies.values(), *new]
    skeleton = _skeleton(elf, image.content.read(0, IDENT_SIZE), len(kept))
    raw = skeleton
    for at in range(0, len(added), AT_ONCE):
        raw = _add(raw, added[at : at + AT_ONCE], image.name)
    return _graft(
        image,
        elf,
        old,
        kept,
        raw,
        start=align_up(len(skeleton), PAGE),
        new=added,
        places=tuple(copies),
        entry=entry,
        at_front=table,
    )


def _apart(s: Segment, header_size: int) -> tuple[Segment, ...]:
    """A PT_LOAD as two: its first page, or two where the ELF header needs them, and what is left."""
    size = PAGE - s.vaddr % PAGE
    if s.offset + size < header_size:
        size += PAGE
    if size >= s.filesz:
        return (s,)
    rest = replace(
        s,
        offset=s.offset + size,
        vaddr=s.vaddr + size,
        paddr=s.paddr + size,
        filesz=s.filesz - size,
        memsz=s.memsz - size,
    )
    return replace(s, filesz=size, memsz=size), rest


def _copy(image: ElfImage, s: Segment) -> NewSegment:
    data = image.content.read(s.offset, s.filesz)
    return NewSegment(s.type, s.flags, s.vaddr, s.paddr, data, s.memsz, 1 if s.vaddr % PAGE else PAGE)


def _skeleton(elf: ElfClass, ident: bytes, count: int) -> bytes:
    """An ELF file of `count` stand-ins, as small as LIEF takes it."""
    size = IDENT_SIZE + elf.ehdr.size
    head = elf.ehdr.pack(
        ET_EXEC, elf.machine, 1, 0, size, 0, 0, size, elf.phdr.size, count, elf.shdr.size, 0, 0
    )
    data = align_up(size + count * elf.phdr.size, PAGE)
    table = b"".join(elf.pack_segment(_stand_in(i, data)) for i in range(count))
    return (ident + head + table).ljust(data, b"\0") + bytes(count * _STAND_IN)


def _stand_in(index: int, data: int) -> Segment:
    address = _STAND_IN_BASE + index * PAGE
    return Segment(PT_LOAD, PF_R, data + index * _STAND_IN, address, address, _STAND_IN, _STAND_IN, 1)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C waiting: an exception of Python's inside of LIEF's C++ would end the process by abort()."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _add(raw: bytes, new: Sequence[NewSegment], name: str) -> bytes:
    """LIEF's part: move the program header table to the end, add the segments behind it."""
    with uninterrupted():
        import lief

        kinds = lief.ELF.Segment.TYPE
        with lief.logging.level_scope(lief.logging.LEVEL.OFF):
            binary = lief.ELF.parse(raw)
            if not isinstance(binary, lief.ELF.Binary):
                raise _refused(name, "does not read the skeleton")
            # First of all: what add() would otherwise do of itself shifts contents or fills gaps.
            table = binary.relocate_phdr_table(lief.ELF.Binary.PHDR_RELOC.FILE_END)
            if not table:
                raise _refused(name, "cannot move the program header table")
            for segment in binary.segments:
                if segment.type == kinds.LOAD and segment.physical_size and segment.file_offset == table:
                    segment.type = kinds.PT_NULL_  # it would load the table at a made-up physical address
            for wanted in new:
                _add_one(binary, wanted, name)
            config = lief.ELF.Builder.config_t()
            config.dynamic_section = False
            config.notes = False  # LIEF rounds descsz up and counts the name's NUL twice
            return bytes(binary.write_to_bytes(config))


def _add_one(binary: lief.ELF.Binary, wanted: NewSegment, name: str) -> None:
    import lief

    segment = lief.ELF.Segment()
    segment.type = lief.ELF.Segment.TYPE(wanted.type)
    segment.flags = lief.ELF.Segment.FLAGS(wanted.flags & (PF_R | PF_W | PF_X))  # it knows no others
    segment.alignment = wanted.align
    segment.content = bytearray(wanted.data)
    segment.virtual_address = wanted.vaddr or PAGE  # 0 asks LIEF for an address of its own
    added = binary.add(segment)
    if added is None:
        raise _refused(name, f"does not add a segment at {wanted.vaddr:#x}")
    # add() overwrites each of these with something of its own.
    added.virtual_address = wanted.vaddr
    added.physical_address = wanted.paddr
    added.physical_size = len(wanted.data)
    added.virtual_size = wanted.memsz
    added.alignment = wanted.align


def _refused(name: str, what: str) -> VerificationError:
    return VerificationError(Problem(rules.EDITOR, name, f"LIEF {what}"))


def _graft(
    image: ElfImage,
    elf: ElfClass,
    old: ElfHeader,
    kept: Sequence[Segment],
    raw: bytes,
    *,
    start: int,
    new: Sequence[NewSegment],
    places: Sequence[int],
    entry: int,
    at_front: int,
) -> Edit:
    """Move LIEF's tail behind the payload and put the payload's own program headers back.

    The first of `new` take the `places` of the payload's own; the table goes to `at_front` if that is not 0.
    """
    edited = ElfHeader(*elf.ehdr.unpack_from(raw, IDENT_SIZE))
    at = align_up(image.content.size, PAGE)
    shift = at - start
    added = []
    for index in range(edited.e_phnum):
        segment = elf.segment(raw, edited.e_phoff + index * elf.phdr.size)
        if segment.type != PT_NULL and segment.offset >= start:
            added.append(replace(segment, offset=segment.offset + shift))
    if len(added) != len(new) or edited.e_phoff < start:
        raise _refused(image.name, f"made {len(added)} of {len(new)} segments")
    added = [replace(made, flags=wanted.flags) for made, wanted in zip(added, new, strict=True)]
    tail = bytearray(raw[start:])
    room = Span(edited.e_phoff - start, edited.e_phnum * elf.phdr.size)
    tail[room.start : room.end] = bytes(room.size)
    if at_front:
        tail, added = _spread(tail, at, added, new)
    segments = [*kept, *added[len(places) :]]
    for place, made in zip(places, added, strict=False):
        segments[place] = made
    table = b"".join(map(elf.pack_segment, segments))
    phoff = at_front or edited.e_phoff + shift
    fields = replace(old, e_entry=entry, e_phoff=phoff, e_phnum=len(segments))
    head = image.content.read(0, IDENT_SIZE) + elf.ehdr.pack(*_values(fields))
    if at_front:
        head = _with_table(image, elf, old, head, at_front, table)
    else:
        tail[room.start : room.end] = table.ljust(room.size, b"\0")
    return Edit(head, at, bytes(tail))


def _spread(
    tail: bytearray, at: int, made: Sequence[Segment], new: Sequence[NewSegment]
) -> tuple[bytearray, list[Segment]]:
    """What stands from `at` of the file on, with each segment where it was asked for."""
    if all(wanted.offset is None for wanted in new):
        return tail, list(made)
    spread, segments = bytearray(), []
    for segment, wanted in zip(made, new, strict=True):
        offset = align_up(at + len(spread), PAGE) if wanted.offset is None else wanted.offset
        spread += bytes(offset - at - len(spread))
        spread += tail[segment.offset - at :][: segment.filesz]
        segments.append(replace(segment, offset=offset))
    return spread, segments


def _with_table(
    image: ElfImage, elf: ElfClass, old: ElfHeader, head: bytes, offset: int, table: bytes
) -> bytes:
    """The file's first bytes up to the end of a table at `offset`, or of the old one, which is zeros."""
    former = old.e_phoff, old.e_phoff + old.e_phnum * elf.phdr.size
    end = max(offset + len(table), former[1] if former[0] < offset + len(table) else 0)
    start = bytearray(head + image.content.read(len(head), end - len(head)))
    start[former[0] : former[1]] = bytes(max(0, min(former[1], end) - former[0]))
    start[offset : offset + len(table)] = table
    return bytes(start)


def _values(fields: ElfHeader) -> Sequence[int]:
    return [getattr(fields, name) for name in ElfHeader.__dataclass_fields__]
