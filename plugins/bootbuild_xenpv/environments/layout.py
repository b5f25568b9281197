"""The bootstrap region of a PV domain: what lies where, in the order and alignment of its builder.

xen/include/public/xen.h (Start-of-day memory layout); tools/libs/guest/xg_dom_core.c xc_dom_build_image and
xg_dom_x86.c for a domU, xen/arch/x86/pv/dom0_build.c for dom0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bootbuild.api import ElfImage, InputError, Problem, align_up
from bootbuild_xenpv.environments.frames import PAGE
from bootbuild_xenpv.notes import PvNotes
from bootbuild_xenpv.rules import DOES_NOT_FIT, INIT_P2M

PADDING = 512 << 10  #: bytes behind the stack that are mapped
ROUND = 4 << 20  #: the mapping ends at a multiple
SHIFTS = (12, 21, 30, 39)  #: of an entry in a table of level 1 to 4
_M48 = (1 << 48) - 1

Table = tuple[int, int]
"""A page table: its level, and the number that a table of that level has in 48 bits."""

Taken = dict[Table, int]
"""Tables that are there, with their frames."""


@dataclass(frozen=True)
class Part:
    """Whole pages at a pseudo-physical frame."""

    pfn: int
    pages: int

    @property
    def address(self) -> int:
        """Pseudo-physical."""
        return self.pfn * PAGE

    @property
    def end(self) -> int:
        """First frame behind it."""
        return self.pfn + self.pages


@dataclass(frozen=True)
class Mapping:
    """Virtual addresses from `start` up to `last` inclusive, mapped to frames from `pfn` on."""

    start: int
    last: int
    pfn: int

    def tables(self, level: int) -> range:
        """Which tables of `level` it needs, by the number that a table of that level has in 48 bits."""
        shift = SHIFTS[level - 1] + 9
        return range((self.start & _M48) >> shift, ((self.last & _M48) >> shift) + 1)


@dataclass(frozen=True)
class Layout:
    """One domain's bootstrap region. Frames pseudo-physical, addresses virtual."""

    virt_base: int
    start_info: Part
    tables: Part
    stack: Part
    p2m: Part
    p2m_frames: Part  #: the frames that it takes with its page tables, where INIT_P2M says its place
    module: Part | None
    mappings: tuple[Mapping, ...]  #: the bootstrap region's, and the frame table's where that lies outside
    numbered: dict[Table, int] = field(repr=False)  #: their frames
    store: Part | None
    console: Part | None

    @property
    def p2m_base(self) -> int:
        """Where the frame table is mapped."""
        outside = self.mappings[1:]
        return outside[0].start if outside else self.virtual(self.p2m)

    def virtual(self, part: Part) -> int:
        """Where the bootstrap region maps a part of it."""
        return self.virt_base + part.address & (1 << 64) - 1


class _Allocator:
    """Hands out frames one after the other, as xc_dom_alloc_segment does."""

    def __init__(self, first: int) -> None:
        self.end = first

    def take(self, size: int) -> Part:
        part = Part(self.end, -(-size // PAGE))
        self.end += part.pages
        return part


@dataclass(frozen=True)
class _Builder:
    """Where the two that build domains differ."""

    rings: bool  #: it gives pages for those of store and console
    bootstrap: Callable[[int, int], tuple[Mapping, int]]
    """The mapping, from VIRT_BASE on, that covers all up to an end and its own tables; how many these are."""
    number: Callable[[Mapping, int, Taken], Iterator[tuple[Table, int]]]
    """The frames of the mapping's tables, the first one given."""
    end: Callable[[int, int, int], int]
    """First frame behind the region, by the frames that are used, are mapped, and are the module's."""
    tables_first: bool  #: a frame table outside the region lies behind its page tables, not before them
    apart: int  #: bytes that must be between that and VIRT_BASE


def domu(image: ElfImage, notes: PvNotes, module_size: int, frames: int) -> Layout:
    """As libxenguest builds it, for a domain of `frames` pages. Raises InputError (BB-L202, BB-L207)."""
    return _lay_out(_TOOLSTACK, image, notes, module_size, frames)


def dom0(image: ElfImage, notes: PvNotes, module_size: int, frames: int) -> Layout:
    """As dom0_construct_pv builds it. Raises InputError (BB-L202, BB-L207)."""
    return _lay_out(_HYPERVISOR, image, notes, module_size, frames)


def _lay_out(builder: _Builder, image: ElfImage, notes: PvNotes, module_size: int, frames: int) -> Layout:
    base, p2m_base = notes.virt_base, notes.init_p2m
    if notes.kernel.start < base:
        text = f"the kernel lies at {notes.kernel}, and the domain's memory is mapped from {base:#x} on"
        raise InputError(Problem(DOES_NOT_FIT, image.name, text))
    allocator = _Allocator(align_up(notes.kernel.end - base, PAGE) // PAGE)
    module = allocator.take(module_size) if module_size and not notes.mod_start_pfn else None
    p2m = allocator.take(8 * frames) if p2m_base is None else None
    start_info = allocator.take(PAGE)
    store, console = (allocator.take(PAGE), allocator.take(PAGE)) if builder.rings else (None, None)
    _check_room(image, allocator.end, frames)  # before its tables are counted, of which a lie has millions
    mapping, count = builder.bootstrap(base, base + allocator.end * PAGE)
    tables = allocator.take(count * PAGE)
    numbered = dict(builder.number(mapping, tables.pfn, {}))
    stack = allocator.take(PAGE)
    mapped = (mapping.last + 1 - base) // PAGE
    allocator.end = builder.end(allocator.end, mapped, module.pages if module else 0)
    if module_size and notes.mod_start_pfn:
        module = allocator.take(module_size)
    mappings, first = [mapping], allocator.end
    if p2m is None:
        assert p2m_base is not None
        p2m_end = p2m_base + 8 * frames
        if p2m_end + builder.apart > base:
            # count_pgtables: overlapping mappings; setup_pv_physmap: P->M table overlaps initial mapping
            text = f"the frame table that INIT_P2M asks for ends at {p2m_end:#x}, behind VIRT_BASE {base:#x}"
            raise InputError(Problem(INIT_P2M, image.name, text))
        needed = len(dict(_number(Mapping(p2m_base, p2m_end - 1, 0), 0, numbered)))
        ahead = needed if builder.tables_first else 0
        p2m = Part(first + ahead, -(-8 * frames // PAGE))
        mappings.append(Mapping(p2m_base, p2m_base + p2m.pages * PAGE - 1, p2m.pfn))
        numbered |= dict(_number(mappings[1], first if builder.tables_first else p2m.end, numbered))
        allocator.take((needed + p2m.pages) * PAGE)
    _check_room(image, allocator.end, frames)
    return Layout(
        virt_base=base,
        start_info=start_info,
        store=store,
        console=console,
        tables=tables,
        stack=stack,
        p2m=p2m,
        p2m_frames=Part(first, allocator.end - first),
        module=module,
        mappings=tuple(mappings),
        numbered=numbered,
    )


def _check_room(image: ElfImage, needed: int, frames: int) -> None:
    if needed > frames:
        text = f"the bootstrap region takes {needed} pages, the domain has {frames}"
        raise InputError(Problem(DOES_NOT_FIT, image.name, text))


def _bootstrap_dom0(base: int, tables: int) -> tuple[Mapping, int]:
    """The same for dom0, whose builder counts up until the tables are enough."""
    count = 1
    while True:
        count += 1
        stack_end = tables + (count + 1) * PAGE
        end = align_up(stack_end, ROUND)
        end += ROUND if end - stack_end < PADDING else 0
        mapping = Mapping(base, end - 1, 0)
        if 1 + sum(len(mapping.tables(level)) for level in (3, 2, 1)) <= count:
            return mapping, count


def _number_dom0(mapping: Mapping, first: int, taken: Taken) -> Iterator[tuple[Table, int]]:
    """The root, then each table of level 1 with those above it that are new."""
    yield (4, 0), first
    pfn, known = first + 1, set(taken)
    for number in mapping.tables(1):
        for level in (1, 2, 3):
            key = (level, number >> 9 * (level - 1))
            if key not in known:
                known.add(key)
                yield key, pfn
                pfn += 1


def _bootstrap(base: int, end: int) -> tuple[Mapping, int]:
    """alloc_pgtables_pv: the mapping that also covers its own tables, and how many these are."""
    spare = 1 + PADDING // PAGE  # with the stack
    pages = spare
    while True:
        last = (end + pages * PAGE) | ROUND - 1
        mapping = Mapping(base, last, 0)
        count = 1 + sum(len(mapping.tables(level)) for level in (3, 2, 1))
        pages = count + spare
        if end + pages * PAGE <= last + 1:
            return mapping, count


def _number(mapping: Mapping, first: int, taken: Taken) -> Iterator[tuple[Table, int]]:
    """Frames for the tables that are not `taken` yet: the root, then level 3, 2 and 1 (count_pgtables)."""
    pfn = first
    for level in (4, 3, 2, 1):
        for number in (0,) if level == 4 else mapping.tables(level):
            if (level, number) not in taken:
                yield (level, number), pfn
                pfn += 1


def _whole_order(_used: int, mapped: int, module: int) -> int:
    """get_order_from_bytes: a power of two, beside the module, which has frames of its own."""
    return (1 << (mapped - module - 1).bit_length()) + module


def _padded(used: int, mapped: int, _module: int) -> int:
    """xc_dom_alloc_pad."""
    return max(used, mapped)


_TOOLSTACK = _Builder(True, _bootstrap, _number, _padded, tables_first=False, apart=0)
_HYPERVISOR = _Builder(False, _bootstrap_dom0, _number_dom0, _whole_order, tables_first=True, apart=1)
