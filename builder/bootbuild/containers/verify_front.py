"""After every write: whether loaders find at the start of the file what was put there for them.

A scan of the raw bytes, as loaders make it, and a comparison with the payload's own file; streamed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

from bootbuild.containers import rules
from bootbuild.formats.elf_readback import ReadBack
from bootbuild.model.content import Content, chunks, first_difference
from bootbuild.model.contribution import Layout, Loaded, Relaid
from bootbuild.model.payload import PT_LOAD, Payload
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span

# Elf32_Ehdr, Elf64_Ehdr (gABI chapter 4): offset and form of e_phoff, offset of e_phentsize before e_phnum.
_TABLE = {32: (28, "<I", 42), 64: (32, "<Q", 54)}

Found = tuple[Rule, str]


def padding(payload: Payload, layout: Layout, content: Content) -> tuple[int, list[Found]]:
    """Compare the start of an image, up to the returned offset, with the payload's.

    They differ in their ELF headers, which are not looked at, in the former table, now zeros, and in what
    was written over zeros.
    """
    old = payload.elf.content
    former, table = _table(old, payload.elf.bits), _table(content, payload.elf.bits)
    new = [table, *(header.file for header in layout.headers)]
    end = max(span.end for span in new)
    end = max(end, former.end) if former.start < end else end
    before, after = bytearray(old.read(0, end)), bytearray(content.read(0, end))
    head = min(former.start, table.start)
    before[:head] = after[:head]
    _blank(before, former)
    for span in new:
        _blank(after, span)
    if before == after:
        return end, []
    pairs = zip(before, after, strict=False)
    differing = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))
    return end, [(rules.BYTES_CHANGED, f"first at file offset {differing:#x}")]


def _table(content: Content, bits: int) -> Span:
    """File offsets of the program header table."""
    at, form, sizes = _TABLE[bits]
    (start,) = struct.unpack(form, content.read(at, struct.calcsize(form)))
    each, count = struct.unpack("<HH", content.read(sizes, 4))
    return Span(start, each * count)


def _blank(data: bytearray, span: Span) -> None:
    end = min(span.end, len(data))
    if span.start < end:
        data[span.start : end] = bytes(end - span.start)


def headers(layout: Layout, content: Content) -> Iterator[Found]:
    """Each header is the first thing like it that its loader finds, and whole within the limit."""
    for placed in layout.headers:
        spec = placed.spec
        raw, magic = content.read(0, spec.limit), spec.data[:4]
        at = raw.find(magic)
        while at >= 0 and at % spec.align:
            at = raw.find(magic, at + 1)
        if at != placed.offset or raw[at : at + len(placed.data)] != placed.data:
            there = f"is at {at:#x}" if at >= 0 else "is nowhere"
            text = (
                f"what a loader finds in the first {spec.limit:#x} bytes {there}, not at {placed.offset:#x}"
            )
            yield rules.HEADER_MISSING, text if at != placed.offset else f"at {at:#x} are other bytes"


def addressed(layout: Layout, back: ReadBack, content: Content) -> Iterator[Found]:
    """Whether the addresses of each header load what the program headers say, and nothing beside it."""
    loads = sorted((s for s in back.segments if s.type == PT_LOAD and s.memsz), key=lambda s: s.paddr)
    for placed in layout.headers:
        if not placed.spec.flat:
            continue
        raw = content.read(placed.offset, len(placed.data))
        said = {
            field: int.from_bytes(raw[at : at + 4], "little")
            for at, field in placed.spec.fields
            if isinstance(field, Loaded)
        }
        base = placed.offset - said[Loaded.START]
        for s in loads:
            if s.offset - s.paddr != base:
                yield rules.ADDRESSES_WRONG, f"file bytes {s.file} would be at {s.offset - base:#x}"
            if s.paddr + s.filesz > said[Loaded.END] or s.paddr + s.memsz > said[Loaded.BSS_END]:
                yield rules.ADDRESSES_WRONG, f"the end cuts what belongs at physical {s.physical}"
        if base + said[Loaded.END] > content.size:
            yield rules.ADDRESSES_WRONG, f"load_end_addr {said[Loaded.END]:#x} is behind the file's end"
        for lower, upper in pairwise(s for s in loads if s.filesz):
            gap = Span(lower.file.end, max(0, upper.offset - lower.file.end))
            if any(any(part) for part in chunks(content, gap.start, gap.size)):
                yield rules.ADDRESSES_WRONG, f"file bytes {gap} between two segments are not zero"


def moved(given: Payload, relaid: Relaid, back: ReadBack, content: Content) -> Iterator[Found]:
    """Every PT_LOAD of a file that was laid out anew loads what the payload's own does."""
    physical = relaid.bits != given.elf.bits
    old = given.elf.content
    for s in given.elf.loads:
        wanted = (s.flags, s.paddr if physical else s.vaddr, s.paddr, s.filesz, s.memsz)
        there = [n for n in back.segments if (n.flags, n.vaddr, n.paddr, n.filesz, n.memsz) == wanted]
        if all(first_difference(old, s.offset, content, n.offset, s.filesz) is not None for n in there):
            yield rules.SEGMENT_CHANGED, f"nothing loads what belongs at physical {s.physical}"
