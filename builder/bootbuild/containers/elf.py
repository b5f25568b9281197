"""The ELF container: stubs behind the kernel, one PT_NOTE, every byte of the payload where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bootbuild.containers import rules
from bootbuild.containers.front import entry_point, flat_base, relay, with_front
from bootbuild.containers.notes import merge
from bootbuild.errors import PluginError, Problem, RefusedError
from bootbuild.formats.repair import faults
from bootbuild.model.content import Content, FileContent, chunks, snapshot
from bootbuild.model.contribution import Contribution, Layout, PlacedSegment
from bootbuild.model.payload import PF_R, PF_W, PF_X, PT_LOAD, Payload, Segment
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span, align_up
from bootbuild.store import writing
from bootbuild.stubs.link import GRANULE, MAX_MAPPING, Linked, Params, extent, link

PAGE = 0x1000
PHDR = 56  #: bytes of the larger program header
LIMIT = 1 << 32  #: stubs are entered in 32-bit mode, and offsets of ELF32 have as many bits
SIGNED = 1 << 31  #: 64-bit code of the small model names what lies below (psABI 3.5.1)

NAME = "elf"


class _Place(NamedTuple):
    """Where one contribution goes, physical."""

    contribution: Contribution
    text: Span
    bss: Span


class ElfContainer:
    """Adds to an ELF file; where nothing is inserted and no note written it stays as it is, to the byte."""

    suffix = ".elf"

    def lay_out(self, payload: Payload, contributions: Sequence[Contribution]) -> Layout:
        """Place the stubs behind the payload's highest physical address, from a multiple of 2 MiB on.

        Each inserted contribution gets an RX segment and, where its stubs have NOBITS, an RW one, all with
        the VA-PA difference of the segment that holds the startup path. Raises RefusedError (BB-W001 to
        BB-W009, BB-W011), and PluginError where the stubs themselves do not link.
        """
        layout = _layout(payload, contributions)
        size = _file_size(payload, layout)
        bits = payload.elf.bits if layout.relaid is None else layout.relaid.bits
        if layout.notes and bits == 32 and size > LIMIT:
            text = f"its {payload.elf.content.size:#x} bytes and what is added take up to {size:#x}"
            raise RefusedError(Problem(rules.FILE_TOO_LARGE, payload.source, text))
        return layout

    def write(self, payload: Payload, layout: Layout, destination: Path) -> Content:
        """Write the image: the payload's bytes, streamed, then everything that is new; what was written.

        Raises OutputError (BB-W09n) and VerificationError (BB-W010, BB-W020 to BB-W032); then nothing is
        left at `destination` that was not there before.
        """
        from bootbuild.containers.verify import verify

        image = relay(payload.elf, layout.relaid)
        content = image.content
        with writing(destination) as output:
            if not layout.notes:
                for part in chunks(content):
                    output.write(part)
                verify(payload, layout, output.path, str(destination))
                return snapshot(FileContent(output.path))
            from bootbuild.formats.elf_edit import NewSegment, add_segments, note_segment

            base = flat_base(image, layout.relaid)
            new = [
                NewSegment(
                    *(PT_LOAD, s.flags, s.vaddr, s.paddr, s.data, s.memsz, PAGE),
                    offset=None if base is None else base + s.paddr,
                )
                for s in layout.segments
            ]
            edit = add_segments(
                image, [*new, note_segment(layout.notes)], entry_point(payload.elf, layout), layout.table
            )
            head = _with_headers(edit.head, content, layout)
            output.write(head)
            for part in chunks(content, len(head)):
                output.write(part)
            output.write(bytes(edit.at - content.size))
            output.write(edit.tail)
            verify(payload, layout, output.path, str(destination))
            return snapshot(FileContent(output.path))


def _layout(payload: Payload, contributions: Sequence[Contribution]) -> Layout:
    inserted = [c for c in contributions if c.chain]
    problems = _contradictions(payload, contributions)
    if problems:
        raise RefusedError(problems)
    written = bool(inserted) or any(c.notes for c in contributions)
    repairs = faults(payload.elf) if payload.repair or written else ()
    if not inserted:
        notes = merge(payload, contributions, {}, Span(0, 0)) if written or repairs else b""
        return with_front(payload, contributions, Layout((), notes, (), repairs=repairs), {})
    zero = _bss_of(payload)
    places = _places(payload, inserted, len(zero))
    stub = Span(places[0].text.start, max(p.bss.end for p in places) - places[0].text.start)
    problems = [p for c in inserted for p in _placement_problems(payload, c, stub)]
    if problems:
        raise RefusedError(dict.fromkeys(problems))
    linked = [_link(payload, place, stub, zero) for place in places]
    by_target = {p.contribution.target: n for p, n in zip(places, linked, strict=True)}
    notes = merge(payload, contributions, by_target, stub)
    layout = Layout(
        segments=tuple(s for p, n in zip(places, linked) for s in _segments(payload, p, n)),
        notes=notes,
        entries=tuple((p.contribution.target, n.exports[_entry(p)]) for p, n in zip(places, linked)),
        stub=stub,
        repairs=repairs,
    )
    return with_front(payload, contributions, layout, by_target)


def _with_headers(head: bytes, content: Content, layout: Layout) -> bytes:
    """The start of the file, up to the last header that a loader searches for."""
    end = max([len(head), *(header.file.end for header in layout.headers)])
    start = bytearray(head + content.read(len(head), end - len(head)))
    for header in layout.headers:
        start[header.file.start : header.file.end] = header.data
    return bytes(start)


def _file_size(payload: Payload, layout: Layout) -> int:
    """Bytes that the image takes at most: each part behind the payload may be padded to a page."""
    headers = len(payload.elf.segments) + len(layout.segments) + 1
    parts = [*(len(s.data) for s in layout.segments), len(layout.notes), headers * PHDR]
    if layout.relaid is not None:  # each segment may be padded up to a page of 2 MiB
        parts += [layout.relaid.room, GRANULE * len(payload.elf.segments)]
    copies = 3 * len(payload.elf.loads)  # pages that are loaded with the ELF header
    return payload.elf.content.size + sum(parts) + PAGE * (len(parts) + copies + 1)


def _contradictions(payload: Payload, contributions: Sequence[Contribution]) -> list[Problem]:
    """What is wrong before anything has a place."""
    problems: list[Problem] = []
    notes: dict[tuple[str, int], str] = {}
    targets: set[str] = set()

    def problem(rule: Rule, target: str, message: str) -> None:
        problems.append(Problem(rule, f"{payload.source}: {target}", message))

    high = [s for s in payload.elf.loads if s.physical.end > LIMIT]
    for c in contributions:
        if c.chain and high:
            s = high[0]
            text = f"p_paddr {s.paddr:#x} of the segment at {s.virtual} is above 4 GiB"
            problem(rules.LMA_IS_VMA, c.target, text)
        if c.target in targets:
            problem(rules.DOUBLE_TARGET, c.target, "is there twice")
        targets.add(c.target)
        if c.container != NAME:
            problem(rules.WRONG_CONTAINER, c.target, f"needs container {c.container}; this image is {NAME}")
        for note in c.notes:
            first = notes.setdefault((note.owner, note.type), c.target)
            if first != c.target:
                problem(
                    rules.NOTE_CLASH, c.target, f"note {note.type} of owner {note.owner} is {first}'s too"
                )
        if not c.chain:
            continue
        segment = payload.elf.segment_at(c.startup.vaddr)
        if segment is None or not segment.flags & PF_X:
            where = "no PT_LOAD" if segment is None else "a PT_LOAD that is not executable"
            problem(rules.NO_STARTUP, c.target, f"{c.startup.name} at {c.startup.vaddr:#x} lies in {where}")
    return problems


def _bss_of(payload: Payload) -> tuple[Span, ...]:
    """What of the payload's memory no file bytes fill."""
    return tuple(
        Span(s.paddr + s.filesz, s.memsz - s.filesz) for s in payload.elf.loads if s.memsz > s.filesz
    )


def _places(payload: Payload, inserted: Sequence[Contribution], zero_count: int) -> list[_Place]:
    at = align_up(payload.elf.physical_end, GRANULE)
    places = []
    for c in inserted:
        room = extent(c.chain, c.companions, zero_count, c.addresses)
        align = max(PAGE, room.align)
        text = Span(align_up(at, align), room.text_size)
        bss = Span(align_up(text.end, align), room.bss_size)
        places.append(_Place(c, text, bss))
        at = bss.end
    return places


def _home(payload: Payload, contribution: Contribution) -> Segment:
    segment = payload.elf.segment_at(contribution.startup.vaddr)
    assert segment is not None  # _contradictions has refused it
    return segment


def _linked_range(payload: Payload, contribution: Contribution, stub: Span) -> Span:
    """Virtual range of all segments of the startup path's VA-PA difference, and of the stub beside them."""
    home = _home(payload, contribution)
    shift = home.vaddr - home.paddr
    family = [s for s in payload.elf.loads if s.vaddr - s.paddr == shift]
    start = min(s.vaddr for s in family)
    return Span(start, max(stub.end + shift, *(s.virtual.end for s in family)) - start)


def _placement_problems(payload: Payload, contribution: Contribution, stub: Span) -> list[Problem]:
    """Why the stub cannot be where the payload leaves it room."""
    problems: list[Problem] = []
    home = _home(payload, contribution)
    shift = home.vaddr - home.paddr
    limit = 1 << payload.elf.bits
    virtual = Span((stub.start + shift) % limit, stub.size)
    where = f"{payload.source}: {contribution.target}"
    if stub.end > LIMIT:
        problems.append(Problem(rules.NO_ROOM, where, f"the stub would be at physical {stub}"))
    if virtual.end > limit:
        problems.append(Problem(rules.VIRTUAL_CLASH, where, f"the stub's linked range {virtual} wraps"))
    for s in payload.elf.loads:
        if virtual.overlaps(s.virtual):
            text = f"the stub's linked range {virtual} overlaps the segment at {s.virtual}"
            problems.append(Problem(rules.VIRTUAL_CLASH, where, text))
    if shift % PAGE:
        text = f"p_vaddr - p_paddr is {shift:#x}, no multiple of a page"
        problems.append(Problem(rules.LINKED_MAPPING, where, text))
    elif shift and contribution.startup.linked:
        linked = _linked_range(payload, contribution, stub)
        size = align_up(linked.end, GRANULE) - linked.start // GRANULE * GRANULE
        reason = ""
        if shift % GRANULE:
            reason = f"p_vaddr - p_paddr is {shift:#x}, no multiple of 2 MiB"
        elif size > MAX_MAPPING:
            reason = f"the linked range {linked} is larger than 1 GiB"
        elif linked.end > 1 << 47 and linked.start < (1 << 64) - (1 << 47):
            reason = f"the linked range {linked} is not canonical"
        elif linked.start < LIMIT:
            reason = f"the linked range {linked} lies in the first 4 GiB, away from where it is loaded"
        if reason:
            problems.append(Problem(rules.LINKED_MAPPING, where, reason))
    return problems


def _link(payload: Payload, place: _Place, stub: Span, zero: tuple[Span, ...]) -> Linked:
    c = place.contribution
    home = _home(payload, c)
    mapping = None
    if home.vaddr != home.paddr and c.startup.linked:
        linked = _linked_range(payload, c, stub)
        mapping = (linked.start, linked.start - (home.vaddr - home.paddr), linked.size)
    target = c.startup.address if c.own_entry is None else c.own_entry
    params = Params(target, stub, c.startup.load_offset, mapping, zero, c.addresses)
    try:
        return link(c.chain, c.companions, params, place.text.start, place.bss.start)
    except PluginError as error:
        if stub.end <= SIGNED:
            raise
        text = f"the stub would be at physical {stub}, above 2 GiB, where its code does not link"
        raise RefusedError(Problem(rules.NO_ROOM, f"{payload.source}: {c.target}", text)) from error


def _entry(place: _Place) -> str:
    return place.contribution.chain[0].entry


def _segments(payload: Payload, place: _Place, linked: Linked) -> list[PlacedSegment]:
    home = _home(payload, place.contribution)
    limit = 1 << payload.elf.bits
    text, bss = place.text.start, place.bss.start

    def virtual(paddr: int) -> int:
        return (paddr + home.vaddr - home.paddr) % limit

    segments = [PlacedSegment(PF_R | PF_X, virtual(text), text, linked.text, len(linked.text))]
    if linked.bss_size:
        segments.append(PlacedSegment(PF_R | PF_W, virtual(bss), bss, b"", linked.bss_size))
    return segments
