"""Page table entries of a 64-bit PV guest, and what Xen makes of one before it is used.

Intel SDM volume 3A, 4.5; xen/include/asm-x86/page.h, xen/arch/x86/pv/mm.h (adjust_guest_l1e and its like).
"""

from __future__ import annotations

PRESENT, WRITE, USER, ACCESSED, DIRTY, LARGE, GLOBAL = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
CACHING = 0x98  #: PWT, PCD, and what is PAT in an entry of level 1
GUEST_KERNEL = 1 << 52  #: _PAGE_GUEST_KERNEL: a page of the guest's kernel, which runs in ring 3 as all of it
FRAME = 0x000F_FFFF_FFFF_F000
ENTRIES = 512
XEN_SLOTS = range(256, 272)  #: of the root: ROOT_PAGETABLE_FIRST_XEN_SLOT and _XEN_SLOTS


def disallowed(entry: int, level: int, *, caching: bool) -> int:
    """The bits that a release build of Xen refuses (L1_DISALLOW_MASK and its like, mm.c).

    `caching`: the domain has devices to map.
    """
    if level > 1:
        return entry & (CACHING | GLOBAL)
    return 0 if caching else entry & CACHING


def adjust(entry: int, level: int) -> int:
    """The entry as Xen puts it into a table of this level: it can be reached from ring 3."""
    if not entry & PRESENT:
        return entry
    if level > 1:
        return entry | USER
    if not entry & USER:
        return (entry & ~GLOBAL) | USER | GUEST_KERNEL
    return entry if entry & GUEST_KERNEL else entry | GLOBAL
