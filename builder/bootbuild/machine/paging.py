"""Linear addresses: the page walk that the core makes, made again for reports and for the host's accesses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bootbuild.machine.block import PAGE
from bootbuild.machine.engine import EFER_LMA, Core
from bootbuild.machine.memory import Memory
from bootbuild.model.machine import RegionKind

CR0_PE, CR0_WP, CR0_PG = 1, 1 << 16, 1 << 31
CR4_PSE, CR4_PAE, CR4_OSXSAVE = 1 << 4, 1 << 5, 1 << 18
ADDRESS_WIDTH = 40  #: physical address bits that CPUID leaf 80000008H of this core reports
_PRESENT, _WRITE, _USER, _LARGE, _NX = 1, 2, 4, 0x80, 1 << 63
_LONG = ((39, "PML4"), (30, "PDPT"), (21, "PD"), (12, "PT"))
_ADDRESS = 0x000F_FFFF_FFFF_F000
_EFER_NXE = 1 << 11

# Reserved bits, by the SDM's tables 4-4 (32-bit, 4 MiB), 4-8 to 4-11 (PAE) and 4-15 to 4-20 (4-level).
_BEYOND = (1 << 52) - (1 << ADDRESS_WIDTH)
_BEYOND_PAE = (1 << 63) - (1 << ADDRESS_WIDTH)
_PDPTE_PAE = _NX | _BEYOND_PAE  #: and bits 8:5 and 2:1, which count when the entry is loaded only
_PDPTE_LOADED = _PDPTE_PAE | 0x1E6
_PDE_4MIB = 1 << 21


class Step(NamedTuple):
    """One table entry that a walk read; `entry` is None where the table lies outside memory."""

    table: str  #: "PML4", "PDPT", "PD", "PT"
    address: int  #: physical, of the entry
    entry: int | None
    reserved: int = 0  #: the reserved bits that are set in a present entry

    def __str__(self) -> str:
        value = "no memory there" if self.entry is None else f"{self.entry:#x}"
        wrong = f" (reserved: {self.reserved:#x})" if self.reserved else ""
        return f"{self.table}[{self.address:#x}] = {value}{wrong}"


class Walk(NamedTuple):
    """Where a linear address leads."""

    physical: int | None  #: None if not mapped
    steps: tuple[Step, ...] = ()
    size: int = 1 << 32  #: of the page, bytes
    writable: bool = True
    user: bool = True

    @property
    def reserved(self) -> bool:
        """Whether a table entry has reserved bits set: that is a fault for every access."""
        return bool(self.steps and self.steps[-1].reserved)

    @property
    def outside(self) -> int | None:
        """Physical address of a table entry that lies outside memory."""
        if self.steps and self.steps[-1].entry is None:
            return self.steps[-1].address
        return None


class PageFault(Exception):
    """A host access on the guest's behalf that the tables forbid: #PF with `code`."""

    def __init__(self, address: int, code: int) -> None:
        super().__init__(f"page fault at {address:#x}")
        self.address = address
        self.code = code


class ReservedMemory(Exception):
    """A host access on the guest's behalf would write to memory that the map calls reserved."""

    def __init__(self, physical: int) -> None:
        super().__init__(f"write at physical {physical:#x}, which is reserved")
        self.physical = physical


def bad_pointer(memory: Memory, cr3: int) -> Step | None:
    """The first entry of the PAE page-directory-pointer table at `cr3` that has reserved bits set."""
    table = cr3 & 0xFFFFFFE0
    for at in range(table, table + 32, 8):
        entry = memory.word(at, 8)
        if entry is not None and entry & _PRESENT and entry & _PDPTE_LOADED:
            return Step("PDPTE", at, entry, entry & _PDPTE_LOADED)
    return None


class Paging:
    """The guest's view of memory. Addresses linear, sizes in bytes."""

    def __init__(self, core: Core, memory: Memory) -> None:
        self._core = core
        self._memory = memory

    def walk(self, address: int) -> Walk:
        """Follow the tables in force (no paging, 32-bit with PSE, PAE, 4-level; SDM 3A, 4.2–4.5)."""
        cr0, cr3, cr4, efer = self._core.paging()
        if not cr0 & CR0_PG:
            return Walk(address & 0xFFFFFFFF)
        no_execute = 0 if efer & _EFER_NXE else _NX
        if efer & EFER_LMA:
            if (address >> 47) not in (0, 0x1FFFF):
                return Walk(None)
            return self._follow(address, cr3 & _ADDRESS, _LONG, (30, 21), _BEYOND | no_execute)
        address &= 0xFFFFFFFF
        if cr4 & CR4_PAE:
            return self._follow(address, cr3 & 0xFFFFFFE0, _LONG[1:], (21,), _BEYOND_PAE | no_execute)
        return self._follow32(address, cr3 & 0xFFFFF000, bool(cr4 & CR4_PSE))

    def _follow(
        self,
        address: int,
        table: int,
        levels: tuple[tuple[int, str], ...],
        large: tuple[int, ...],
        reserved: int,
    ) -> Walk:
        steps: list[Step] = []
        writable = user = True
        for shift, name in levels:
            at = table + (address >> shift & 0x1FF) * 8
            entry = self._memory.word(at, 8)
            pointers = shift == 30 and len(levels) == 3  # a PAE page-directory-pointer table
            if entry is None or not entry & _PRESENT:
                return Walk(None, (*steps, Step(name, at, entry)))
            last = shift == 12 or (shift in large and bool(entry & _LARGE))
            wrong = entry & (_PDPTE_PAE if pointers else reserved)
            if last and shift > 12:
                wrong |= entry & (1 << shift) - (1 << 13)
            elif shift == 39:
                wrong |= entry & _LARGE
            steps.append(Step(name, at, entry, wrong))
            if wrong:
                return Walk(None, tuple(steps))
            if not pointers:  # they carry no rights
                writable &= bool(entry & _WRITE)
                user &= bool(entry & _USER)
            if last:
                size = 1 << shift
                physical = (entry & _ADDRESS & -size) | (address & (size - 1))
                return Walk(physical, tuple(steps), size, writable, user)
            table = entry & _ADDRESS
        raise AssertionError("the last level maps a page")

    def _follow32(self, address: int, table: int, large: bool) -> Walk:
        at = table + (address >> 22) * 4
        entry = self._memory.word(at, 4)
        steps = [Step("PD", at, entry)]
        if entry is None or not entry & _PRESENT:
            return Walk(None, tuple(steps))
        writable, user = bool(entry & _WRITE), bool(entry & _USER)
        if large and entry & _LARGE:
            if entry & _PDE_4MIB:
                return Walk(None, (Step("PD", at, entry, _PDE_4MIB),))
            high = (entry >> 13 & 0xFF) << 32  # PSE-36
            physical = high | (entry & 0xFFC00000) | (address & 0x3FFFFF)
            return Walk(physical, tuple(steps), 1 << 22, writable, user)
        at = (entry & 0xFFFFF000) + (address >> 12 & 0x3FF) * 4
        entry = self._memory.word(at, 4)
        steps.append(Step("PT", at, entry))
        if entry is None or not entry & _PRESENT:
            return Walk(None, tuple(steps))
        writable &= bool(entry & _WRITE)
        user &= bool(entry & _USER)
        physical = (entry & 0xFFFFF000) | (address & 0xFFF)
        return Walk(physical, tuple(steps), 1 << 12, writable, user)

    def read(self, address: int, size: int) -> bytes:
        """Bytes, whatever their access rights. LookupError if not mapped."""
        return b"".join(self._memory.read(at, part) for at, part in self._parts(address, size))

    def pages(self, address: int, size: int) -> list[tuple[int, int]]:
        """(physical address, size) of each page's part of a range. LookupError if not mapped."""
        return [*self._parts(address, size)]

    def _parts(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        while size > 0:
            physical = self.walk(address).physical
            if physical is None:
                raise LookupError(f"no page is mapped at {address:#x}")
            part = min(size, PAGE - address % PAGE)
            yield physical, part
            address, size = address + part, size - part

    def system_read(self, address: int, size: int) -> bytes:
        """What the core reads at privilege level 0 (descriptors, gates, the TSS). Raises PageFault."""
        return b"".join(self._memory.read(at, part) for at, part in self._checked(address, size, False))

    def system_write(self, address: int, data: bytes, user: bool = False) -> list[tuple[int, int]]:
        """What the core writes (a stack frame); the (physical address, size) of what ROM dropped.

        Raises PageFault and ReservedMemory before a byte is written.
        """
        parts = self._checked(address, len(data), True, user)
        kinds = [region and region.kind for region in (self._memory.region(at) for at, _ in parts)]
        for (at, _), kind in zip(parts, kinds, strict=True):
            if kind in (RegionKind.RESERVED, RegionKind.FREE):
                raise ReservedMemory(at)
        done = 0
        for (at, part), kind in zip(parts, kinds, strict=True):
            if kind is not RegionKind.ROM:
                self._memory.write(at, data[done : done + part])
            done += part
        return [part for part, kind in zip(parts, kinds, strict=True) if kind is RegionKind.ROM]

    def _checked(self, address: int, size: int, write: bool, user: bool = False) -> list[tuple[int, int]]:
        protect = user or bool(self._core.get("cr0") & CR0_WP)
        parts = []
        while size > 0:
            walk = self.walk(address)
            code = 2 * write | 4 * user
            if walk.physical is None:
                raise PageFault(address, code | 9 * walk.reserved)
            if (write and protect and not walk.writable) or (user and not walk.user):
                raise PageFault(address, code | 1)
            part = min(size, PAGE - address % PAGE)
            parts.append((walk.physical, part))
            address, size = address + part, size - part
        return parts
