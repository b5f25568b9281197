"""Hypercalls on page tables and descriptor tables: xen/arch/x86/mm.c, xen/arch/x86/pv/descriptor-tables.c."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import DOMID_SELF, ENOSYS, EPERM
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.entries import ACCESSED, DIRTY, PRESENT, WRITE
from bootbuild_xenpv.hypervisor.hypercall import ESRCH, MMUEXT_OP, Calls, Note, Refused, UnmodelledError
from bootbuild_xenpv.hypervisor.mmu import PAGE, Mmu, descriptor

DOMID_IO, DOMID_XEN = 0x7FF1, 0x7FF2
GUEST_GDT_PAGES = 14  #: FIRST_RESERVED_GDT_PAGE
FIRST_XEN_DESCRIPTOR = GUEST_GDT_PAGES * 512
_FLUSHES = (*range(6, 13), 18)  #: MMUEXT_TLB_FLUSH_LOCAL …: every change of a table has flushed
_SET_LDT = 13  #: MMUEXT_SET_LDT


class MemoryCalls:
    """What a domain asks of its tables."""

    def __init__(self, domain: PvDomain, mmu: Mmu, note: Note) -> None:
        self._domain, self._mmu, self._note = domain, mmu, note
        self._gdt: list[int] = []  #: frames

    @property
    def calls(self) -> Calls:
        """What they are."""
        return {
            1: (self._mmu_update, 4),
            2: (self._set_gdt, 2),
            10: (self._update_descriptor, 2),
            14: (self._update_va_mapping, 3),
            MMUEXT_OP: (self._mmuext_op, 4),
        }

    def _mmu_update(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        requests, count, done = arguments[0], arguments[1] & 0x7FFFFFFF, arguments[2]
        domid = arguments[3] & 0xFFFFFFFF
        if not (domid == DOMID_IO and self._domain.privileged) and (error := self._not_own(cpu, domid)):
            return error
        try:
            for index in range(count):
                pointer, value = struct.unpack("<QQ", cpu.read(requests + 16 * index, 16))
                self._update(cpu, pointer, value)
                if done:
                    cpu.write(done, struct.pack("<I", index + 1))
        except ValueError:
            return -ENOSYS
        return 0

    def _not_own(self, cpu: Cpu, domid: int) -> int:
        """get_pg_owner: 0 for DOMID_SELF, an error else. By its number a domain does not name itself."""
        if domid == DOMID_SELF:
            return 0
        self._note(cpu, f"the tables of domain {domid:#x}: DOMID_SELF is {DOMID_SELF:#x}")
        return -EPERM if domid in {0, DOMID_IO, DOMID_XEN} - {self._domain.domid} else -ESRCH

    def _update(self, cpu: Cpu, pointer: int, value: int) -> None:
        kind, address = pointer & 7, pointer & ~7
        if kind == 1:  # MMU_MACHPHYS_UPDATE
            self._mmu.kind(address // PAGE)
            cpu.write_physical(self._domain.m2p + address // PAGE * 8, struct.pack("<Q", value))
        elif kind in (0, 2):  # MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_PRESERVE_AD
            self._mmu.update(cpu, address, value, keep=ACCESSED | DIRTY if kind == 2 else 0)
        else:
            raise ValueError(kind)

    def _update_va_mapping(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        entry = self._mmu.leaf(cpu, arguments[0])
        if entry is None:
            raise Refused(f"no page table covers {arguments[0]:#x}")
        self._mmu.update(cpu, entry, arguments[1])
        return 0

    def _mmuext_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        if error := self._not_own(cpu, arguments[3] & 0xFFFF):
            return error
        for index in range(arguments[1] & 0x7FFFFFFF):
            command, one, two = struct.unpack("<I4xQQ", cpu.read(arguments[0] + 24 * index, 24))
            self._mmuext(cpu, command, one, two)
            if arguments[2]:
                cpu.write(arguments[2], struct.pack("<I", index + 1))
        return 0

    def _mmuext(self, cpu: Cpu, command: int, one: int, two: int) -> None:
        mmu = self._mmu
        if command <= 3:  # MMUEXT_PIN_L1_TABLE …
            mmu.pin(cpu, one, command + 1)
        elif command == 4:
            mmu.unpin(cpu, one)
        elif command == 5:
            mmu.new_root(cpu, one)
        elif command == 15:
            mmu.new_user_root(cpu, one)
        elif command in (16, 17):  # MMUEXT_CLEAR_PAGE, COPY_PAGE
            if command == 17:
                mmu.kind(two)
            mmu.store(cpu, one * PAGE, cpu.read_physical(two * PAGE, PAGE) if command == 17 else bytes(PAGE))
        elif command not in _FLUSHES and (command, two) != (_SET_LDT, 0):
            raise UnmodelledError((command, one, two))

    def _set_gdt(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        entries = arguments[1]
        if entries > FIRST_XEN_DESCRIPTOR:
            raise Refused(f"{entries} descriptors; those from {FIRST_XEN_DESCRIPTOR} on are Xen's")
        count = -(-entries // 512)
        frames = list(struct.unpack(f"<{count}Q", cpu.read(arguments[0], 8 * count)))
        self._mmu.take_descriptors(cpu, frames)
        self._mmu.drop_descriptors(cpu, self._gdt)
        self._gdt = frames
        table = [frame * PAGE for frame in frames]
        table += [self._domain.zero_page] * (GUEST_GDT_PAGES - count)
        leaves = struct.pack(
            f"<{GUEST_GDT_PAGES}Q", *(at | PRESENT | WRITE | ACCESSED | DIRTY for at in table)
        )
        cpu.write_physical(self._domain.gdt_table, leaves)
        return 0

    def _update_descriptor(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        address, value = arguments[0], arguments[1]
        if self._mmu.is_table(address // PAGE):
            raise Refused(f"machine frame {address // PAGE:#x} is a page table")
        self._mmu.kind(address // PAGE)
        cpu.write_physical(address, struct.pack("<Q", descriptor(value)))
        return 0
