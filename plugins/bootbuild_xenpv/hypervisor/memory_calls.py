"""Hypercalls on page tables and descriptor tables: xen/arch/x86/mm.c, xen/arch/x86/pv/descriptor-tables.c."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import DOMID_SELF, EINVAL, EPERM
from bootbuild_xenpv.hypervisor.descriptors import FIRST_XEN_DESCRIPTOR, descriptor
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.entries import ACCESSED, DIRTY, PRESENT, WRITE
from bootbuild_xenpv.hypervisor.hypercall import (
    EACCES,
    EOPNOTSUPP,
    ESRCH,
    MMUEXT_OP,
    STEPS,
    BadAddressError,
    Calls,
    Note,
    PreemptedError,
    Refused,
    UnmodelledError,
)
from bootbuild_xenpv.hypervisor.mmu import PAGE, WORK, Mmu

DOMID_IO, DOMID_XEN = 0x7FF1, 0x7FF2
_GUEST_GDT_PAGES = FIRST_XEN_DESCRIPTOR // 512
_PREEMPTED = 1 << 31  #: MMU_UPDATE_PREEMPTED, of a count: the call is made for the rest
_MMU_UPDATE, _MMUEXT = struct.Struct("<QQ"), struct.Struct("<I4xQQ")
_KEEPS = {0: 0, 2: ACCESSED | DIRTY, 3: 0}
"""What MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_PRESERVE_AD and _NO_TRANSLATE keep of an entry."""

# MMUEXT_*: every change of a table has flushed already
_FLUSH, _FLUSH_OF_VCPUS, _FLUSH_CACHE, _FLUSH_CACHE_GLOBAL = (6, 7, 10, 11), (8, 9), 12, 18
_SET_LDT, _SUPERPAGES = 13, (19, 20)

# Flags of update_va_mapping, xen.h: UVMF_TLB_FLUSH and _INVLPG, of UVMF_LOCAL, of _ALL, or of a set of vCPUs
_UVMF_FLUSHTYPE, _UVMF_OF_VCPUS, _UVMF_NO_SET = 3, (1, 2), (0, 4)


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

    # -- many operations in one call

    def _mmu_update(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        tables, owner = arguments[3] >> 16 & 0xFFFF, arguments[3] & 0xFFFF
        if tables not in (0, self._domain.domid + 1):
            raise Refused(f"the tables of domain {tables - 1:#x}", ESRCH)
        return self._each(cpu, arguments, _MMU_UPDATE, self._update, devices=owner == DOMID_IO)

    def _mmuext_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        return self._each(cpu, arguments, _MMUEXT, self._mmuext, devices=False)

    def _each(
        self,
        cpu: Cpu,
        arguments: Sequence[int],
        operation: struct.Struct,
        do: Callable[..., None],
        *,
        devices: bool,
    ) -> int:
        """Do what an array of operations says, up to the first that fails; how many were done is told."""
        address, count, told, domid = arguments[0], arguments[1] & 0xFFFFFFFF, arguments[2], arguments[3]
        before = 0
        if count & _PREEMPTED:
            count &= ~_PREEMPTED
            before = int.from_bytes(cpu.read(told, 4), "little") if told else 0
        cpu.read(address, 0)
        error = 0 if devices and self._domain.privileged else self._not_own(cpu, domid & 0xFFFF)
        if error and (count or error == -ESRCH or operation is _MMUEXT):
            return error  # mmu_update finds out only when it has something to do
        made = 0
        try:
            while made < min(count, STEPS) and self._mmu.work < WORK:
                do(cpu, *operation.unpack(cpu.read(address + made * operation.size, operation.size)))
                made += 1
        finally:
            if told:
                self._tell(cpu, told, before + made)
        if made < count:
            rest = (address + made * operation.size, count - made | _PREEMPTED, told, domid)
            raise PreemptedError(rest)
        return 0

    @staticmethod
    def _tell(cpu: Cpu, address: int, made: int) -> None:
        try:
            cpu.write(address, struct.pack("<I", made & 0xFFFFFFFF))
        except BadAddressError:
            return  # nobody is told of that either

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
        elif kind in _KEEPS:
            self._mmu.update(cpu, address, value, keep=_KEEPS[kind])
        else:
            raise UnmodelledError((pointer, value))

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
        elif command not in _FLUSH and (command, two) != (_SET_LDT, 0):
            self._flush(cpu, command, one, two)

    def _flush(self, cpu: Cpu, command: int, one: int, two: int) -> None:
        if command in _FLUSH_OF_VCPUS:
            try:
                cpu.read(two, 1)
            except BadAddressError as reason:
                raise Refused(f"the set of vCPUs cannot be read: {reason}") from reason
        elif command in (_FLUSH_CACHE, _FLUSH_CACHE_GLOBAL):
            if not self._domain.io_memory:
                error = EACCES if command == _FLUSH_CACHE else EINVAL
                raise Refused("the caches are for a domain with devices to flush", error)
        elif command in _SUPERPAGES:
            raise Refused("superpages are no longer marked", EOPNOTSUPP)
        elif command == _SET_LDT and (two & 0xFFFFFFFF > 8192 or one % PAGE):
            raise Refused(f"an LDT of {two & 0xFFFFFFFF} descriptors at {one:#x}")
        else:
            raise UnmodelledError((command, one, two))

    # -- one entry, one descriptor, a descriptor table

    def _update_va_mapping(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        entry = self._mmu.leaf(cpu, arguments[0])
        if entry is None:
            raise Refused(f"no page table covers {arguments[0]:#x}")
        self._mmu.update(cpu, entry, arguments[1])
        vcpus = arguments[2] & ~_UVMF_FLUSHTYPE
        if arguments[2] & _UVMF_FLUSHTYPE in _UVMF_OF_VCPUS and vcpus not in _UVMF_NO_SET:
            cpu.read(vcpus, 1)
        return 0

    def _set_gdt(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        entries = arguments[1] & 0xFFFFFFFF
        if entries > FIRST_XEN_DESCRIPTOR:
            raise Refused(f"{entries} descriptors; those from {FIRST_XEN_DESCRIPTOR} on are Xen's")
        count = -(-entries // 512)
        frames = list(struct.unpack(f"<{count}Q", cpu.read(arguments[0], 8 * count)))
        self._mmu.take_descriptors(cpu, frames)
        self._mmu.drop_descriptors(cpu, self._gdt)
        self._gdt = frames
        table = [frame * PAGE for frame in frames]
        table += [self._domain.zero_page] * (_GUEST_GDT_PAGES - count)
        leaves = struct.pack(
            f"<{_GUEST_GDT_PAGES}Q", *(at | PRESENT | WRITE | ACCESSED | DIRTY for at in table)
        )
        cpu.write_physical(self._domain.gdt_table, leaves)
        return 0

    def _update_descriptor(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        address, value = arguments[0], arguments[1]
        if address % 8:
            raise Refused(f"a descriptor at {address:#x}, which is no multiple of 8")
        fixed = descriptor(value)
        if self._mmu.is_table(address // PAGE):
            raise Refused(f"machine frame {address // PAGE:#x} is a page table")
        self._mmu.kind(address // PAGE)
        cpu.write_physical(address, struct.pack("<Q", fixed))
        return 0
