"""After every write: whether the file is the payload with what was asked for, and nothing else.

Read by pyelftools and by comparing bytes, never by the code that wrote; streamed, never read whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bootbuild.containers import rules
from bootbuild.containers.front import relay
from bootbuild.containers.verify_front import Found, addressed, headers, moved, padding
from bootbuild.errors import Problem, VerificationError
from bootbuild.formats import notes as elf_notes
from bootbuild.formats.elf_readback import ReadBack, read_back
from bootbuild.formats.notes import NoteError, XenNote
from bootbuild.model.content import Content, FileContent, first_difference
from bootbuild.model.contribution import Layout
from bootbuild.model.payload import PT_LOAD, PT_NOTE, PT_NULL, PT_PHDR, Payload, Segment
from bootbuild.model.span import Span

LOWEST_ENTRY = 1 << 20  #: rust-vmm linux-loader elf/mod.rs refuses a lower e_entry
# Fields of Elf32_Ehdr and Elf64_Ehdr that an edit sets: e_entry, e_phoff, e_phnum (gABI chapter 4).
_SET_FIELDS = {32: (Span(24, 4), Span(28, 4), Span(44, 2)), 64: (Span(24, 8), Span(32, 8), Span(56, 2))}
_HEADER_SIZE = {32: 52, 64: 64}


def verify(payload: Payload, layout: Layout, path: Path, name: str) -> None:
    """Check the image at `path`, called `name` in messages.

    Raises VerificationError (BB-W020 to BB-W032) with every rule that it breaks.
    """
    content = FileContent(path)
    if not layout.notes:
        found = list(_same(payload.elf.content, content, 0))
        if not found and content.size != payload.elf.content.size:
            found = [(rules.BYTES_CHANGED, f"the file has {content.size} bytes")]
        _raise(found, name)
        return
    given = payload
    payload = replace(payload, elf=relay(payload.elf, layout.relaid))
    found = list(_bytes(payload, layout, content))
    found += headers(layout, content)
    try:
        back = read_back(path)
    except ValueError as error:
        found.append((rules.UNREADABLE, f"pyelftools: {error}"))
    else:
        if layout.relaid is not None:
            found += moved(given, layout.relaid, back, content)
        found += addressed(layout, back, content)
        found += _header(payload, layout, back)
        kept = _kept(payload, back)
        found += _segments(payload, layout, back, content, kept)
        found += _places(payload, layout, back, content, kept)
        found += _notes(layout, back, content)
    _raise(found, name)


def _raise(found: list[Found], name: str) -> None:
    if found:
        raise VerificationError(Problem(rule, name, message) for rule, message in found)


def _bytes(payload: Payload, layout: Layout, content: FileContent) -> Iterator[Found]:
    """Everything of the payload is where it was, but for three fields of its header, and padding."""
    old = payload.elf.content
    bits = payload.elf.bits
    before, after = bytearray(old.read(0, _HEADER_SIZE[bits])), bytearray(content.read(0, _HEADER_SIZE[bits]))
    for field in _SET_FIELDS[bits]:
        before[field.start : field.end] = after[field.start : field.end] = bytes(field.size)
    if before != after:
        at = next((i for i, (a, b) in enumerate(zip(before, after)) if a != b), len(after))
        yield rules.HEADER_CHANGED, f"byte {at:#x} of the ELF header"
    start = _HEADER_SIZE[bits]
    if layout.table:
        start, found = padding(payload, layout, content)
        yield from found
    yield from _same(old, content, start)


def _same(old: Content, new: Content, at: int) -> Iterator[Found]:
    """Whether `new` has the bytes of `old` from `at` on."""
    differing = first_difference(old, at, new, at, old.size - at)
    if differing is not None and at + differing < new.size:
        yield rules.BYTES_CHANGED, f"first at file offset {at + differing:#x}"
    elif differing is not None:
        yield rules.BYTES_CHANGED, f"the file ends at {new.size:#x}"


def _header(payload: Payload, layout: Layout, back: ReadBack) -> Iterator[Found]:
    wanted = payload.elf.entry if layout.entry_point is None else layout.entry_point
    if layout.entry_point is None and wanted < LOWEST_ENTRY and layout.entries:
        wanted = layout.entries[0][1]
    loads = [s.virtual for s in back.segments if s.type == PT_LOAD]
    if layout.table and not any(back.header["e_entry"] in span for span in loads):
        yield rules.ENTRY_WRONG, f"e_entry {back.header['e_entry']:#x} is in no PT_LOAD by p_vaddr"
    if back.header["e_entry"] != wanted:
        yield rules.ENTRY_WRONG, f"e_entry is {back.header['e_entry']:#x}, not {wanted:#x}"


@dataclass(frozen=True)
class _Kept:
    """A program header that the image must have, and where in the payload's file its bytes are."""

    segment: Segment
    source: int


def _kept(payload: Payload, back: ReadBack) -> list[_Kept]:
    """The payload's program headers as they must be in the image, in their order.

    A PT_LOAD that brings the ELF header into memory, where the guest may read it, is there in one or two
    parts that load the same: the first of a copy behind the payload, since the file's header is the image's.
    """
    kept: list[_Kept] = []
    behind = [s for s in back.segments if s.type == PT_LOAD and s.offset >= payload.elf.content.size]
    for s in payload.elf.segments:
        if s.type == PT_LOAD and s.filesz and s.offset < _HEADER_SIZE[payload.elf.bits]:
            kept += _in_parts(s, behind, _HEADER_SIZE[payload.elf.bits])
        elif s.type not in (PT_NULL, PT_PHDR, PT_NOTE):
            kept.append(_Kept(s, s.offset))
    return kept


def _in_parts(s: Segment, behind: Sequence[Segment], header_size: int) -> Iterator[_Kept]:
    for copy in behind:
        size = copy.filesz
        whole = size == s.filesz
        if (copy.vaddr, copy.paddr) == (s.vaddr, s.paddr) and (
            whole or header_size <= s.offset + size < s.file.end
        ):
            yield _Kept(replace(copy, flags=s.flags, memsz=s.memsz if whole else size), s.offset)
            if not whole:
                rest = replace(s, offset=s.offset + size, vaddr=s.vaddr + size, paddr=s.paddr + size)
                yield _Kept(replace(rest, filesz=s.filesz - size, memsz=s.memsz - size), rest.offset)
            return
    yield _Kept(replace(s, offset=-1), s.offset)  # nowhere


def _matches(layout: Layout, back: ReadBack, old: Sequence[Segment]) -> dict[int, Segment]:
    """Program header of each of the layout's segments, by its index there."""
    left = [s for s in back.segments if s not in old]
    found: dict[int, Segment] = {}
    for index, wanted in enumerate(layout.segments):
        header = (PT_LOAD, wanted.flags, wanted.vaddr, wanted.paddr, len(wanted.data), wanted.memsz)
        for s in left:
            if (s.type, s.flags, s.vaddr, s.paddr, s.filesz, s.memsz) == header:
                found[index] = s
                left.remove(s)
                break
    return found


def _segments(
    payload: Payload, layout: Layout, back: ReadBack, content: FileContent, kept: Sequence[_Kept]
) -> Iterator[Found]:
    """Old program headers in their order, then the layout's, one PT_NOTE, nothing else."""
    old = [k.segment for k in kept]
    matched = _matches(layout, back, old)
    missing = [s for s in old if s not in back.segments]
    if missing:
        yield (
            rules.SEGMENT_CHANGED,
            f"{len(missing)} are missing, first that at physical {missing[0].physical}",
        )
    elif [s for s in back.segments if s in old] != old:
        yield rules.SEGMENT_CHANGED, "their order"
    for k in kept:
        s = k.segment
        copied = s.offset not in (k.source, -1)
        if copied and content.read(s.offset, s.filesz) != payload.elf.content.read(k.source, s.filesz):
            yield rules.BYTES_CHANGED, f"the copy at {s.file} of what is loaded at physical {s.physical}"
    aligns = [s.align for s in back.segments if s.type == PT_NOTE]
    if aligns != [4]:
        yield rules.NOTE_SEGMENT, f"{len(aligns)} PT_NOTE, p_align {aligns}"
    for index, wanted in enumerate(layout.segments):
        if index not in matched:
            yield rules.SEGMENT_MISSING, f"no program header for physical {wanted.physical}"
        elif content.read(matched[index].offset, len(wanted.data)) != wanted.data:
            yield rules.SEGMENT_MISSING, f"other bytes at physical {wanted.physical}"
    asked = len(old) + len(layout.segments) + len(aligns)
    if len(back.segments) > asked:
        yield rules.SEGMENT_MISSING, f"{len(back.segments)} program headers, {asked} asked for"


def _places(
    payload: Payload, layout: Layout, back: ReadBack, content: FileContent, kept: Sequence[_Kept]
) -> Iterator[Found]:
    """Nothing new lies over anything else, in memory or in the file."""
    loads = list(_matches(layout, back, [k.segment for k in kept]).values())
    others = [s for s in back.segments if s.type == PT_LOAD and s.memsz and s not in loads]
    for index, s in enumerate(loads):
        for other in (*loads[:index], *others):
            if s.physical.overlaps(other.physical):
                yield rules.SEGMENT_OVERLAP, f"physical {s.physical} and {other.physical}"
    loads += [k.segment for k in kept if k.segment.offset not in (k.source, -1)]
    new = [s for s in (*loads, *(s for s in back.segments if s.type == PT_NOTE)) if s.filesz]
    behind = Span(payload.elf.content.size, content.size - payload.elf.content.size)
    for index, s in enumerate(new):
        if not behind.covers(s.file) or any(s.file.overlaps(other.file) for other in new[:index]):
            yield rules.SEGMENT_OVERLAP, f"file bytes {s.file}"
    table = Span(back.header["e_phoff"], back.header["e_phnum"] * back.header["e_phentsize"])
    taken = [*(s.file for s in new), *(h.file for h in layout.headers)]
    where = Span(layout.table, table.size) if layout.table else behind
    if not where.covers(table) or any(table.overlaps(span) for span in taken):
        yield rules.TABLE_OVERLAP, f"program header table at {table}"
    for s in loads:
        if s.align & (s.align - 1) or (s.align and (s.offset - s.vaddr) % s.align):
            yield rules.INCONGRUENT, f"p_offset {s.offset:#x}, p_vaddr {s.vaddr:#x}, p_align {s.align:#x}"


def _notes(layout: Layout, back: ReadBack, content: FileContent) -> Iterator[Found]:
    segments = [s for s in back.segments if s.type == PT_NOTE]
    if len(segments) != 1:
        return  # reported as BB-W024
    segment = segments[0]
    if content.read(segment.offset, segment.filesz) != layout.notes:
        yield rules.NOTE_BYTES, f"{segment.filesz} bytes at {segment.offset:#x}"
        return
    try:
        wanted = elf_notes.parse(layout.notes)
    except NoteError as error:
        yield rules.UNSAFE_NOTES, str(error)
        return
    if [(n.owner, n.type, n.desc) for n in wanted] != list(back.notes):
        yield rules.NOTE_BYTES, f"pyelftools reads {len(back.notes)} other notes"
    for index, note in enumerate(wanted):
        if note.owner != elf_notes.XEN_OWNER or note.type != XenNote.PHYS32_ENTRY:
            continue
        if index or len(note.desc) not in (4, 8):
            yield rules.UNSAFE_NOTES, f"PHYS32_ENTRY is note {index}, with {len(note.desc)} bytes"
