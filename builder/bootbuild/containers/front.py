"""The start of an image: program headers and headers where loaders search for them, and e_entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bootbuild.containers import rules
from bootbuild.errors import Problem, RefusedError
from bootbuild.formats.elf_fresh import rewrap
from bootbuild.formats.elf_front import first_room
from bootbuild.formats.relocate import LOWEST
from bootbuild.model.contribution import (
    Contribution,
    HeaderSpec,
    Layout,
    Loaded,
    PlacedHeader,
    PlacedSegment,
    Relaid,
)
from bootbuild.model.payload import PT_LOAD, PT_NOTE, PT_NULL, PT_PHDR, ElfImage, Payload, Segment
from bootbuild.model.span import Span, align_up
from bootbuild.stubs.link import Linked

TABLE_ALIGN = 8  #: bytes, of the program header table
LOWEST_ENTRY = 1 << 20  #: linux-loader refuses a lower e_entry even when PVH is used (loader/elf/mod.rs)
MAX_GAPS = 256 << 20  #: bytes of zeros that a flat file may have
PHDR_SIZE = {32: 32, 64: 56}  #: bytes of a program header by ELF class


def entry_point(image: ElfImage, layout: Layout) -> int:
    """e_entry: the layout's; else that of the payload, or the first stub where it is below 1 MiB."""
    if layout.entry_point is not None:
        return layout.entry_point
    if image.entry >= LOWEST_ENTRY or not layout.entries:
        return image.entry
    return layout.entries[0][1]


def relay(image: ElfImage, relaid: Relaid | None) -> ElfImage:
    """The payload's file as the layout has it."""
    if relaid is None:
        return image
    return rewrap(image, relaid.bits, relaid.room, physical=relaid.bits != image.bits, flat=relaid.flat)


def flat_base(image: ElfImage, relaid: Relaid | None) -> int | None:
    """Offset less physical address of all that is loaded of a flat file; None of any other."""
    if relaid is None or not relaid.flat:
        return None
    return image.loads[0].offset - image.loads[0].paddr


def _check_flat(payload: Payload) -> None:
    """Raises RefusedError (BB-W015) where what is loaded cannot be one piece."""
    start = min(s.paddr for s in payload.elf.loads if s.memsz)
    gaps = payload.elf.physical_end - start - sum(s.filesz for s in payload.elf.loads)
    if gaps > MAX_GAPS:
        text = f"{gaps:#x} zeros would stand between its segments"
        raise RefusedError(Problem(rules.NOT_FLAT, payload.source, text))


def with_front(
    payload: Payload, contributions: Sequence[Contribution], layout: Layout, linked: Mapping[str, Linked]
) -> Layout:
    """The layout with what must stand at the start of the file, where a contribution asks for any.

    Room is found between the ELF header and the first byte in use; where there is none, or the file is of
    the wrong class, all of it is laid out anew. Raises RefusedError (BB-W012 to BB-W016), InputError
    (BB-E044).
    """
    asked = [c for c in contributions if c.headers or c.search or c.elf_class]
    if not asked or not layout.notes:
        return layout
    bits = _elf_class(payload, asked)
    specs = [(c, spec) for c in asked for spec in c.headers]
    specs.sort(key=lambda each: each[1].limit)
    search = min((c.search for c in asked if c.search), default=0)
    relaid = None
    flat = any(spec.flat for _, spec in specs)
    if flat:
        _check_flat(payload)
        relaid = Relaid(bits, _size(payload, layout, specs, bits), flat)
    if bits != payload.elf.bits:
        relaid = Relaid(bits, _size(payload, layout, specs, bits), flat)
        layout = replace(layout, segments=tuple(replace(s, vaddr=s.paddr) for s in layout.segments))
    fixed = any(c.search and not c.headers for c in asked)  # a header of the payload's own stays where it is
    layout = _placed(payload, layout, specs, linked, relaid, search, fixed)
    entry = _entry_point(payload, asked, layout, linked)
    return replace(layout, entry_point=entry)


def _elf_class(payload: Payload, asked: Sequence[Contribution]) -> int:
    """The class of the image. Raises RefusedError (BB-W013)."""
    wanted = {c.elf_class: c.target for c in asked if c.elf_class}
    if len(wanted) > 1:
        text = ", ".join(f"{target} takes ELF{bits} only" for bits, target in sorted(wanted.items()))
        raise RefusedError(Problem(rules.CLASS_CLASH, payload.source, text))
    return next(iter(wanted), payload.elf.bits)


def _size(
    payload: Payload, layout: Layout, specs: Sequence[tuple[Contribution, HeaderSpec]], bits: int
) -> int:
    """Bytes that are enough for the table and all headers, wherever they begin."""
    count = len(payload.elf.segments) + len(layout.segments) + 1
    return count * PHDR_SIZE[bits] + TABLE_ALIGN + sum(len(s.data) + s.align for _, s in specs)


def _placed(
    payload: Payload,
    layout: Layout,
    specs: Sequence[tuple[Contribution, HeaderSpec]],
    linked: Mapping[str, Linked],
    relaid: Relaid | None,
    search: int,
    fixed: bool,
) -> Layout:
    """Table and headers in the room that there is, or that a new file has. Raises RefusedError (BB-W012)."""
    if not specs and not search:
        return replace(layout, relaid=relaid)
    image = relay(payload.elf, relaid)
    room = first_room(image)
    found = None if room is None else _fits(image, layout, specs, room, search)
    if found is not None:
        table, offsets = found
        headers = tuple(
            PlacedHeader(at, spec, _filled(payload, c, spec, linked, _loaded(image, layout, relaid, at)))
            for (c, spec), at in zip(specs, offsets, strict=True)
        )
        return replace(layout, headers=headers, table=table, relaid=relaid)
    if relaid is None and not fixed:
        bits = image.bits
        return _placed(
            payload, layout, specs, linked, Relaid(bits, _size(payload, layout, specs, bits)), search, fixed
        )
    limit = min([search, *(spec.limit for _, spec in specs)])
    count = len(layout.segments) + len(image.segments)
    if room is None:  # and the header's own place is fixed
        text = (
            f"{count} program headers have no room beside its own header: a PT_LOAD brings the ELF header "
            "into memory, or there are relocation sections"
        )
    else:
        text = f"{count} program headers and what is searched for do not fit into the first {limit:#x} bytes"
    raise RefusedError(Problem(rules.NO_FRONT, payload.source, text))


def _fits(
    image: ElfImage,
    layout: Layout,
    specs: Sequence[tuple[Contribution, HeaderSpec]],
    room: Span,
    search: int,
) -> tuple[int, list[int]] | None:
    """Offsets of the table and of each header, or None."""
    kept = [s for s in image.segments if s.type not in (PT_NULL, PT_PHDR, PT_NOTE)]
    size = (len(kept) + len(layout.segments) + 1) * PHDR_SIZE[image.bits]
    table = align_up(room.start, TABLE_ALIGN)
    at = table + size
    if search and at > search:
        return None
    offsets = []
    for _, spec in specs:
        at = align_up(at, spec.align)
        offsets.append(at)
        at += len(spec.data)
        if at > spec.limit:
            return None
    return (table, offsets) if at <= room.end else None


def _filled(
    payload: Payload,
    contribution: Contribution,
    spec: HeaderSpec,
    linked: Mapping[str, Linked],
    loaded: Mapping[Loaded, int],
) -> bytes:
    """The header with its addresses. Raises RefusedError (BB-W014, BB-W015)."""
    if spec.flat and loaded[Loaded.START] < LOWEST:
        text = f"its header would be loaded at {loaded[Loaded.START]:#x}"
        raise RefusedError(Problem(rules.NOT_FLAT, payload.source, text))
    data = bytearray(spec.data)
    exports = linked[contribution.target].exports if contribution.target in linked else {}
    for at, field in spec.fields:
        if isinstance(field, Loaded):
            data[at : at + 4] = loaded[field].to_bytes(4, "little")
            continue
        address = exports.get(field.symbol)
        if address is None:
            where = f"{payload.source}: {contribution.target}"
            raise RefusedError(Problem(rules.HEADER_CONTENTS, where, f"no stub exports {field.symbol}"))
        address = address + field.offset & (1 << 8 * field.size) - 1
        data[at : at + field.size] = address.to_bytes(field.size, "little")
    return bytes(data)


def _loaded(image: ElfImage, layout: Layout, relaid: Relaid | None, at: int) -> dict[Loaded, int]:
    """Where a flat file is loaded from a header at offset `at` on."""
    base = flat_base(image, relaid)
    if base is None:
        return {}
    loads = _loads(image, layout)
    return {
        Loaded.START: at - base,
        Loaded.END: max(s.paddr + s.filesz for s in loads),
        Loaded.BSS_END: max(s.paddr + s.memsz for s in loads),
    }


def _entry_point(
    payload: Payload, asked: Sequence[Contribution], layout: Layout, linked: Mapping[str, Linked]
) -> int | None:
    """e_entry: where a target has no other entry its stub; else an address that a PT_LOAD maps.

    GRUB wants it in a segment by p_vaddr, also where a tag names another entry; that of Linux is physical.
    Raises RefusedError (BB-W013, BB-W014, BB-W016).
    """
    named = [c for c in asked if c.entry_point]
    if len(named) > 1:
        text = f"{named[0].target} and {named[1].target} are both entered at e_entry"
        raise RefusedError(Problem(rules.CLASS_CLASH, payload.source, text))
    for c in named:
        entry = linked[c.target].exports.get(c.entry_point)
        if entry is None:
            where = f"{payload.source}: {c.target}"
            raise RefusedError(Problem(rules.HEADER_CONTENTS, where, f"no stub exports {c.entry_point}"))
        return next(_virtual(entry, layout, ()))
    if not any(c.search for c in asked):
        return layout.entry_point
    image = relay(payload.elf, layout.relaid)
    entry = entry_point(image, layout)
    if any(entry in s.virtual for s in _loads(image, layout)):
        return entry
    found = next(_virtual(entry, layout, image.loads), None)
    if found is None:
        text = f"e_entry {entry:#x} is in no PT_LOAD, neither by p_vaddr nor by p_paddr"
        raise RefusedError(Problem(rules.ENTRY_NOWHERE, payload.source, text))
    return found


def _loads(image: ElfImage, layout: Layout) -> list[Segment]:
    new = [Segment(PT_LOAD, s.flags, 0, s.vaddr, s.paddr, len(s.data), s.memsz, 0) for s in layout.segments]
    return [*image.loads, *new]


def _virtual(address: int, layout: Layout, loads: Sequence[Segment]) -> Iterator[int]:
    """Where each segment that holds a physical address maps it."""
    held: list[PlacedSegment | Segment] = [*layout.segments, *loads]
    for segment in held:
        if address in segment.physical:
            yield address - segment.paddr + segment.vaddr
