"""The initial page tables of a PV domain as bytes, in the state in which Xen has validated them."""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator, Mapping

from bootbuild_xenpv.environments.frames import PAGE, Frames
from bootbuild_xenpv.environments.layout import SHIFTS, Layout
from bootbuild_xenpv.hypervisor.entries import (
    ACCESSED,
    DIRTY,
    GUEST_KERNEL,
    PRESENT,
    USER,
    WRITE,
    XEN_SLOTS,
)

_M48 = (1 << 48) - 1
_TABLE = PRESENT | WRITE | USER | ACCESSED | DIRTY  #: lvl_prot[1…3], xg_dom_x86.c
_LEAF = PRESENT | ACCESSED | USER | GUEST_KERNEL  #: lvl_prot[0], and what adjust_guest_l1e adds


def page_tables(
    layout: Layout, frames: Frames, own: Mapping[int, int], dirty: Container[int]
) -> Iterator[tuple[int, bytes]]:
    """(pseudo-physical address, contents) of each table.

    `own`: the entries of Xen's slots in the root. `dirty`: frames that were written through these tables.
    """
    read_only = set(layout.numbered.values())
    for (level, number), pfn in layout.numbered.items():
        table = array("Q", bytes(PAGE))
        if level == 1:
            _fill_leaves(table, number, layout, frames, read_only, dirty)
        else:
            for (below, index), target in layout.numbered.items():
                if below == level - 1 and index >> 9 == number:
                    table[index & 511] = frames.p2m[target] * PAGE | _TABLE
        if level == 4:
            for slot in XEN_SLOTS:  # whatever the builder put there (init_xen_l4_slots)
                table[slot] = own.get(slot, 0)
        yield pfn * PAGE, table.tobytes()


def _fill_leaves(
    table: array[int],
    number: int,
    layout: Layout,
    frames: Frames,
    read_only: Container[int],
    dirty: Container[int],
) -> None:
    start = number << SHIFTS[1]
    for mapping in layout.mappings:
        first, last = mapping.start & _M48, mapping.last & _M48
        for address in range(max(start, first), min(start + (1 << SHIFTS[1]), last + 1), PAGE):
            pfn = mapping.pfn + (address - first) // PAGE
            writable = 0 if pfn in read_only else WRITE
            table[address // PAGE & 511] = frames.p2m[pfn] * PAGE | _LEAF | writable | DIRTY * (pfn in dirty)
