"""Page tables: every change of one, checked as Xen checks it (xen/arch/x86/mm.c).

A frame is a page table of one level, or writable, never both; what a table leads to is in use by it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from bootbuild.api import Cpu
from bootbuild.platform.xen import EPERM
from bootbuild_xenpv.hypervisor.descriptors import descriptor
from bootbuild_xenpv.hypervisor.domain import PvDomain, is_guests
from bootbuild_xenpv.hypervisor.entries import (
    ENTRIES,
    FRAME,
    LARGE,
    PRESENT,
    WRITE,
    XEN_SLOTS,
    adjust,
    disallowed,
)
from bootbuild_xenpv.hypervisor.frame_types import DESCRIPTORS, L1, L4, NAMES, NONE, WRITABLE, FrameTypes
from bootbuild_xenpv.hypervisor.hypercall import EBUSY, Refused
from bootbuild_xenpv.hypervisor.linear import LinearTables

PAGE = 4096
M64 = (1 << 64) - 1
WORK = 1 << 18
"""Entries that are taken and given up in one hypercall, before the guest makes it again for the rest."""
_TABLE = struct.Struct(f"<{ENTRIES}Q")


class Mmu:
    """The types of one domain's frames, and every change of its page tables."""

    def __init__(self, domain: PvDomain) -> None:
        self._domain = domain
        self._types = FrameTypes(domain.frames)
        self._linear = LinearTables()
        self._pinned: set[int] = set()
        self.root = domain.root  #: frame of the root in force
        self.user_root = 0  #: frame of the guest's user mode root, 0 for none
        self.work = 0  #: entries that were taken and given up since the hypercall began
        self._started = False

    def start(self, cpu: Cpu) -> None:
        """Take in what the builder made: its root is in use, and pinned (xc_dom_boot_image, pin_table)."""
        if not self._started:
            self._started = True
            self._take(cpu, self.root, L4)
            self._take(cpu, self.root, L4)
            self._pinned.add(self.root)

    # -- what the guest asks for

    def pin(self, cpu: Cpu, frame: int, level: int) -> None:
        """MMUEXT_PIN_L1_TABLE … L4."""
        if frame in self._pinned:
            raise Refused(f"frame {frame:#x} is pinned already")
        self._take(cpu, frame, level)
        self._pinned.add(frame)

    def unpin(self, cpu: Cpu, frame: int) -> None:
        """MMUEXT_UNPIN_TABLE."""
        if frame not in self._pinned:
            raise Refused(f"frame {frame:#x} is not pinned")
        self._pinned.discard(frame)
        self._drop(cpu, frame)

    def new_root(self, cpu: Cpu, frame: int) -> None:
        """MMUEXT_NEW_BASEPTR, and a move to CR3."""
        self._take(cpu, frame, L4)
        self._drop(cpu, self.root)
        self.root = frame
        cpu.set("cr3", frame * PAGE)

    def new_user_root(self, cpu: Cpu, frame: int) -> None:
        """MMUEXT_NEW_USER_BASEPTR; 0 takes it away."""
        if frame:
            self._take(cpu, frame, L4)
        if self.user_root:
            self._drop(cpu, self.user_root)
        self.user_root = frame

    def update(self, cpu: Cpu, address: int, entry: int, *, keep: int = 0) -> None:
        """Write one entry at a machine address; of `keep` (accessed and dirty) the old bits stay."""
        frame, index = address // PAGE, address % PAGE // 8
        kind = self.kind(frame)
        if kind in (NONE, WRITABLE):
            self.store(cpu, address, struct.pack("<Q", entry))  # a page that is no table: as it is
            return
        if kind == DESCRIPTORS:
            raise Refused(f"frame {frame:#x} is {NAMES[kind]}")
        if kind == L4 and index in XEN_SLOTS:
            raise Refused(f"slot {index} of the root is Xen's")
        (old,) = struct.unpack("<Q", cpu.read_physical(address, 8))
        new = adjust(entry | old & keep if entry & PRESENT else entry, kind)
        self._take_entry(cpu, new, kind, frame)
        cpu.write_physical(address, struct.pack("<Q", new))
        self._drop_entry(cpu, old, kind, frame)

    def store(self, cpu: Cpu, address: int, data: bytes) -> None:
        """Write within a page at a machine address. Raises Refused if nobody may write there."""
        self.keep_writable(cpu, address // PAGE)
        cpu.write_physical(address, data)
        self._drop(cpu, address // PAGE)

    def keep_writable(self, cpu: Cpu, frame: int) -> None:
        """From now on the frame is writable, and nothing else. Raises Refused."""
        self._take(cpu, frame, WRITABLE)

    def writable(self, cpu: Cpu, address: int, size: int) -> bool:
        """Whether the guest can write at virtual addresses."""
        for page in {address & -PAGE, (address + size - 1) & -PAGE}:
            entry = self.leaf(cpu, page)
            if entry is None:
                return False
            (value,) = struct.unpack("<Q", cpu.read_physical(entry, 8))
            if not (value & PRESENT and value & WRITE):
                return False
        return True

    def leaf(self, cpu: Cpu, address: int) -> int | None:
        """Machine address of the entry of level 1 that maps a virtual address, None where there is none."""
        if not is_guests(address & M64):
            return None
        table = self.root
        for shift in (39, 30, 21):
            (entry,) = struct.unpack("<Q", cpu.read_physical(table * PAGE + (address >> shift & 511) * 8, 8))
            if not entry & PRESENT or entry & LARGE:
                return None
            table = (entry & FRAME) // PAGE
        return table * PAGE + (address >> 12 & 511) * 8 if self.is_table(table, L1) else None

    def take_descriptors(self, cpu: Cpu, frames: Iterable[int]) -> None:
        """HYPERVISOR_set_gdt: from now on nobody writes to these pages. Raises Refused, with none taken."""
        taken = []
        try:
            for frame in frames:
                self._take(cpu, frame, DESCRIPTORS)
                taken.append(frame)
        except Refused:
            for frame in taken:
                self._drop(cpu, frame)
            raise

    def drop_descriptors(self, cpu: Cpu, frames: Iterable[int]) -> None:
        """The pages of a descriptor table that is replaced."""
        for frame in frames:
            self._drop(cpu, frame)

    def kind(self, frame: int) -> int:
        """The present type of a frame. Raises Refused if it is not the domain's own."""
        return self._types.kind(frame)

    def is_table(self, frame: int, level: int = 0) -> bool:
        """Whether a machine frame is in use as a page table (of `level`); False for another domain's."""
        return self._types.is_table(frame, level)

    # -- references

    def _take(self, cpu: Cpu, frame: int, kind: int) -> None:
        """get_page_type: one more use of a frame as `kind`; validated if it is a table and the first use."""
        if not self._types.take(frame, kind):
            return
        try:
            if L1 <= kind <= L4:
                self._validate(cpu, frame, kind)
            elif kind == DESCRIPTORS:
                self._check_descriptors(cpu, frame)
        except Refused:
            self._types.drop(frame)
            raise

    def _drop(self, cpu: Cpu, frame: int) -> None:
        """put_page_type; a table that nothing needs any more gives up what it led to."""
        kind = self._types.drop(frame)
        if L1 <= kind <= L4:
            self.work += ENTRIES
            for slot, entry in enumerate(_TABLE.unpack(cpu.read_physical(frame * PAGE, PAGE))):
                if entry & PRESENT and not (kind == L4 and slot in XEN_SLOTS):
                    self._drop_entry(cpu, entry, kind, frame)

    def _take_entry(self, cpu: Cpu, entry: int, level: int, table: int) -> None:
        """get_page_from_l1e … l4e: what an entry in a table of this level leads to is used by it."""
        if not entry & PRESENT:
            return
        frame = (entry & FRAME) // PAGE
        if level > 1 and entry & LARGE:
            raise Refused(f"entry {entry:#x} of level {level} maps a superpage")
        if bad := disallowed(entry, level, caching=bool(self._domain.io_memory)):
            raise Refused(f"entry {entry:#x} of level {level} has bits {bad:#x}, which no guest may set")
        if level > 1 and self.is_table(frame, level):
            self._take_linear(entry, frame, table)
        elif level > 1:
            self._take(cpu, frame, level - 1)
        elif not self._foreign(frame):
            # get_page_from_l1e: memory of others is busy, what is no memory at all may not be had
            self._types.kind(frame, EBUSY if self._domain.is_memory(frame) else EPERM)
            if entry & WRITE:
                self._types.take(frame, WRITABLE, EBUSY)

    def _take_linear(self, entry: int, frame: int, table: int) -> None:
        """get_l2_linear_pagetable and its like: one more entry of `table` that leads to its own level."""
        if entry & WRITE:
            raise Refused(f"entry {entry:#x} leads to a table of its own level, and is writable")
        if frame == table:
            return
        if why := self._linear.take(table, frame):
            raise Refused(f"entry {entry:#x} leads to a table of its own level: {why}")
        self._types.take(frame, self._types.kind(frame))

    def _drop_entry(self, cpu: Cpu, entry: int, level: int, table: int) -> None:
        frame = (entry & FRAME) // PAGE
        if not entry & PRESENT or frame == table:
            return
        if level > 1 and self.is_table(frame, level):
            self._linear.drop(table, frame)
        if level > 1 or (entry & WRITE and not self._foreign(frame)):
            self._drop(cpu, frame)

    def _foreign(self, frame: int) -> bool:
        """Whether the domain may map the frame, and it has no type: shared_info, grants, a device."""
        domain, address = self._domain, frame * PAGE
        granted = frame in domain.grant_frames or frame in domain.status_frames
        return granted or address == domain.shared_info or any(address in s for s in domain.io_memory)

    def _validate(self, cpu: Cpu, frame: int, level: int) -> None:
        """alloc_l1_table … alloc_l4_table: every entry is taken, and made what Xen wants it to be."""
        self.work += ENTRIES
        entries = list(_TABLE.unpack(cpu.read_physical(frame * PAGE, PAGE)))
        taken: list[int] = []
        changed = level == L4
        try:
            for slot, entry in enumerate(entries):
                if not entry & PRESENT or (level == L4 and slot in XEN_SLOTS):
                    continue
                entries[slot] = adjust(entry, level)
                changed = changed or entries[slot] != entry
                self._take_entry(cpu, entries[slot], level, frame)
                taken.append(entries[slot])
        except Refused:
            for entry in taken:
                self._drop_entry(cpu, entry, level, frame)
            raise
        if level == L4:
            for slot in XEN_SLOTS:
                entries[slot] = self._domain.own_slots.get(slot, 0)
        if changed:
            cpu.write_physical(frame * PAGE, _TABLE.pack(*entries))

    def _check_descriptors(self, cpu: Cpu, frame: int) -> None:
        raw = cpu.read_physical(frame * PAGE, PAGE)
        fixed = b"".join(struct.pack("<Q", descriptor(value)) for value in struct.unpack(f"<{ENTRIES}Q", raw))
        if fixed != raw:
            cpu.write_physical(frame * PAGE, fixed)
