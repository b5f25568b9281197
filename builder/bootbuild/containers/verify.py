"""After every write: whether the file is the payload with what was asked for, and nothing else.

Read by pyelftools and by comparing bytes, never by the code that wrote; streamed, never read whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from bootbuild.containers import rules
from bootbuild.errors import Problem, VerificationError
from bootbuild.formats import notes as elf_notes
from bootbuild.formats.elf_readback import ReadBack, read_back
from bootbuild.formats.notes import NoteError, XenNote
from bootbuild.model.content import FileContent, chunks
from bootbuild.model.contribution import Layout
from bootbuild.model.payload import PT_LOAD, PT_NOTE, PT_NULL, PT_PHDR, Payload, Segment
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span

LOWEST_ENTRY = 1 << 20  #: rust-vmm linux-loader elf/mod.rs refuses a lower e_entry
# Fields of Elf32_Ehdr and Elf64_Ehdr that an edit sets: e_entry, e_phoff, e_phnum (gABI chapter 4).
_SET_FIELDS = {32: (Span(24, 4), Span(28, 4), Span(44, 2)), 64: (Span(24, 8), Span(32, 8), Span(56, 2))}
_HEADER_SIZE = {32: 52, 64: 64}

Found = tuple[Rule, str]


def verify(payload: Payload, layout: Layout, path: Path, name: str) -> None:
    """Check the image at `path`, called `name` in messages.

    Raises VerificationError (BB-W020 to BB-W031) with every rule that it breaks.
    """
    content = FileContent(path)
    found = list(_bytes(payload, content))
    try:
        back = read_back(path)
    except ValueError as error:
        found.append((rules.UNREADABLE, f"pyelftools: {error}"))
    else:
        found += _header(payload, layout, back)
        found += _segments(payload, layout, back, content)
        found += _places(payload, layout, back, content)
        found += _notes(layout, back, content)
    if found:
        raise VerificationError(Problem(rule, name, message) for rule, message in found)


def _bytes(payload: Payload, content: FileContent) -> Iterator[Found]:
    """Everything of the payload is where it was, but for three fields of its header."""
    old = payload.elf.content
    bits = payload.elf.bits
    before, after = bytearray(old.read(0, _HEADER_SIZE[bits])), bytearray(content.read(0, _HEADER_SIZE[bits]))
    for field in _SET_FIELDS[bits]:
        before[field.start : field.end] = after[field.start : field.end] = bytes(field.size)
    if before != after:
        at = next((i for i, (a, b) in enumerate(zip(before, after)) if a != b), len(after))
        yield rules.HEADER_CHANGED, f"byte {at:#x} of the ELF header"
    at = _HEADER_SIZE[bits]
    for part, new in zip(chunks(old, at), chunks(content, at, old.size - at)):
        if part != new:
            differing = next((i for i, (a, b) in enumerate(zip(part, new)) if a != b), len(new))
            yield rules.BYTES_CHANGED, f"first at file offset {at + differing:#x}"
            return
        at += len(part)
    if at < old.size:
        yield rules.BYTES_CHANGED, f"the file ends at {at:#x}"


def _header(payload: Payload, layout: Layout, back: ReadBack) -> Iterator[Found]:
    wanted = payload.elf.entry
    if wanted < LOWEST_ENTRY and layout.entries:
        wanted = layout.entries[0][1]
    if back.header["e_entry"] != wanted:
        yield rules.ENTRY_WRONG, f"e_entry is {back.header['e_entry']:#x}, not {wanted:#x}"


def _old(payload: Payload) -> list[Segment]:
    return [s for s in payload.elf.segments if s.type not in (PT_NULL, PT_PHDR, PT_NOTE)]


def _new(payload: Payload, back: ReadBack) -> list[Segment]:
    """Program headers that the payload did not have."""
    new = Counter(back.segments)
    new.subtract(_old(payload))
    return list((+new).elements())


def _segments(payload: Payload, layout: Layout, back: ReadBack, content: FileContent) -> Iterator[Found]:
    """Old program headers in their order, then the layout's, one PT_NOTE, nothing else."""
    old = _old(payload)
    new = _new(payload, back)
    if [s for s in back.segments if s in old] != old:
        missing = [i for i, s in enumerate(old) if s not in back.segments]
        yield rules.SEGMENT_CHANGED, f"segments {missing} of {len(old)} kept" if missing else "order"
    note_segments = [s for s in back.segments if s.type == PT_NOTE]
    if [s.align for s in note_segments] != [4]:
        yield rules.NOTE_SEGMENT, f"{len(note_segments)} PT_NOTE, p_align {[s.align for s in note_segments]}"
    left = [s for s in new if s.type != PT_NOTE]
    for wanted in layout.segments:
        header = (PT_LOAD, wanted.flags, wanted.vaddr, wanted.paddr, len(wanted.data), wanted.memsz)
        match = next(
            (s for s in left if (s.type, s.flags, s.vaddr, s.paddr, s.filesz, s.memsz) == header), None
        )
        if match is None:
            yield rules.SEGMENT_MISSING, f"no program header for physical {wanted.physical}"
            continue
        left.remove(match)
        if content.read(match.offset, match.filesz) != wanted.data:
            yield rules.SEGMENT_MISSING, f"other bytes at physical {wanted.physical}"
    for s in left:
        # A changed header of the payload is reported as that, not as an addition.
        if not any(replace(s, **{f: getattr(o, f)}) == o for o in old for f in Segment.__dataclass_fields__):
            yield rules.SEGMENT_MISSING, f"nobody asked for the segment of type {s.type} at {s.physical}"


def _places(payload: Payload, layout: Layout, back: ReadBack, content: FileContent) -> Iterator[Found]:
    """Nothing new lies over anything else, in memory or in the file."""
    added = [s for s in _new(payload, back) if s.type in (PT_LOAD, PT_NOTE)]
    ranges = {s.physical for s in added if s.type == PT_LOAD} & {s.physical for s in layout.segments}
    loads = sorted(s.physical for s in back.segments if s.type == PT_LOAD and s.memsz)
    for lower, upper in pairwise(loads):
        if lower.overlaps(upper) and (lower in ranges or upper in ranges):
            yield rules.SEGMENT_OVERLAP, f"physical {lower} and {upper}"
    table = Span(back.header["e_phoff"], back.header["e_phnum"] * back.header["e_phentsize"])
    files = sorted(s.file for s in added if s.filesz)
    for lower, upper in pairwise(files):
        if lower.overlaps(upper):
            yield rules.SEGMENT_OVERLAP, f"file bytes {lower} and {upper}"
    behind = payload.elf.content.size
    for span in files:
        if span.start < behind or span.end > content.size:
            yield rules.SEGMENT_OVERLAP, f"file bytes {span} are not behind the payload's {behind:#x}"
    if table.start < behind or table.end > content.size or any(table.overlaps(span) for span in files):
        yield rules.TABLE_OVERLAP, f"program header table at {table}"
    for s in added:
        if s.align & (s.align - 1) or (s.align and (s.offset - s.vaddr) % s.align):
            yield rules.INCONGRUENT, f"p_offset {s.offset:#x}, p_vaddr {s.vaddr:#x}, p_align {s.align:#x}"


def _notes(layout: Layout, back: ReadBack, content: FileContent) -> Iterator[Found]:
    segment = next((s for s in back.segments if s.type == PT_NOTE), None)
    if segment is None:
        return  # reported as BB-W024
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
