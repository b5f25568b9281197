"""The hypercalls of a PV guest, by their numbers.

Numbers and structures: xen/include/public/{xen,memory,sched,vcpu,physdev,event_channel,callback}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import (
    DOMID_SELF,
    EFAULT,
    EINVAL,
    ENOSYS,
    EPERM,
    XENMEM_MEMORY_MAP,
    XenDomain,
    XenHvm,
)
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.hypervisor import traps
from bootbuild_xenpv.hypervisor.domain import M2P_BASE, M2P_END, XEN_START, PvDomain
from bootbuild_xenpv.hypervisor.entries import ACCESSED, DIRTY, PRESENT, WRITE
from bootbuild_xenpv.hypervisor.mmu import PAGE, Mmu, Refused, descriptor
from bootbuild_xenpv.hypervisor.traps import Trap

ENOENT, ESRCH, ENXIO = 2, 3, 6
DOMID_IO, DOMID_XEN = 0x7FF1, 0x7FF2
IRET, MULTICALL = 23, 13
GUEST_GDT_PAGES = 14  #: FIRST_RESERVED_GDT_PAGE
FIRST_XEN_DESCRIPTOR = GUEST_GDT_PAGES * 512
# What a PV domain is told (xen/common/kernel.c, XENVER_get_features): mmu_pt_update_preserve_ad,
# highmem_assist, gnttab_map_avail_bits, memory_op_vnode_supported, direct_mapped
_FEATURES = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17
_FEATURE_EXTENDED_CR3, _FEATURE_DOM0 = 1 << 4, 1 << 11
_ASSIST_EXTENDED_CR3 = 3  #: VMASST_TYPE_pae_extended_cr3
_NAMES = {0: "set_trap_table", 1: "mmu_update", 2: "set_gdt", 14: "update_va_mapping", 26: "mmuext_op"}
_FLUSHES = (*range(6, 13), 18)  #: MMUEXT_TLB_FLUSH_LOCAL …: every change of a table has flushed
_SET_LDT = 13  #: MMUEXT_SET_LDT
_GIVES_PORT = {0: 8, 1: 8, 2: 8, 6: 4, 7: 4}
"""Where EVTCHNOP_bind_interdomain, bind_virq, bind_pirq, alloc_unbound and bind_ipi put the new port."""
_PERIODIC, _RUNSTATE = (6, 7, 9), (3, 4, 5)  #: VCPUOP_*: timers; is_up and run state

_ASSISTS = (*range(6), 32)  #: PV64_VM_ASSIST_MASK

Call = Callable[[Cpu, Sequence[int]], int]


class PvCalls(XenHvm):
    """One domain's calls and what they change. What is not modelled answers -ENOSYS and is recorded."""

    def __init__(
        self, domain: PvDomain, *, version: tuple[int, int], extra_version: str, clobber: int | None
    ) -> None:
        super().__init__(
            XenDomain(
                domid=domain.domid,
                version=version,
                extra_version=extra_version,
                memory_map=domain.memory_map,
                console_frame=domain.console_frame,
                console_port=domain.console_port,
                store_frame=domain.store_frame,
                store_port=domain.store_port,
                privileged=domain.privileged,
            ),
            clobber=clobber,
        )
        self._pv = domain
        self._mmu = Mmu(domain)
        self._traps: dict[int, Trap] = {}
        self._gdt: list[int] = []
        self._vcpu_info = domain.shared_info
        self._kernel_stack = domain.kernel_stack
        self._syscall_entry = 0  #: where the guest's kernel takes system calls
        self._next_port = max(domain.console_port, domain.store_port) + 1
        self._refusal = ""  #: the last thing that was refused, for the report of a crash
        self._assists = {_ASSIST_EXTENDED_CR3} if domain.extended_cr3 else set[int]()
        self._in_multicall = False
        self.iopl = 0
        self.task_switched = False
        self.kernel_gs = 0
        calls: Mapping[int, tuple[Call, int]] = {
            0: (self._set_trap_table, 1),
            1: (self._mmu_update, 4),
            2: (self._set_gdt, 2),
            3: (self._stack_switch, 2),
            4: (self._set_callbacks, 3),
            5: (self._fpu_taskswitch, 1),
            8: (self._done, 2),  # set_debugreg
            9: (self._done, 1),  # get_debugreg
            10: (self._update_descriptor, 2),
            MULTICALL: (self._multicall, 2),
            14: (self._update_va_mapping, 3),
            15: (self._done, 1),  # set_timer_op: time passes with no interrupt
            20: (self._grant_table_op, 3),
            21: (self._vm_assist, 2),
            24: (self._vcpu_op, 3),
            25: (self._set_segment_base, 2),
            26: (self._mmuext_op, 4),
            28: (self._done, 2),  # nmi_op
            30: (self._callback_op, 2),
            33: (self._physdev_op, 2),
        }
        self._calls.update(calls)

    def _read_vcpu(self, cpu: Cpu, offset: int, size: int) -> bytes:
        return cpu.read_physical(self._vcpu_info + offset, size)

    def _write_vcpu(self, cpu: Cpu, offset: int, data: bytes) -> None:
        cpu.write_physical(self._vcpu_info + offset, data)

    def _note(self, cpu: Cpu, refusal: str) -> None:
        self._refusal = refusal
        cpu.record("refused", refusal)

    def _serve(self, cpu: Cpu, number: int, arguments: Sequence[int]) -> int:
        serve, _ = self._calls.get(number, (None, 0))
        try:
            return serve(cpu, arguments) if serve else self._unknown(cpu, number, arguments)
        except LookupError:
            return -EFAULT
        except Refused as reason:
            self._note(cpu, f"{_NAMES.get(number, f'hypercall {number}')}: {reason}")
            return -EINVAL

    def _done(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        return 0

    def _set_trap_table(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        if not arguments[0]:
            self._traps.clear()
        else:
            self._traps |= traps.read_table(cpu, arguments[0])
        return 0

    def _mmu_update(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        requests, count, done = arguments[0], arguments[1] & 0x7FFFFFFF, arguments[2]
        domid = arguments[3] & 0xFFFFFFFF
        if not (domid == DOMID_IO and self._pv.privileged) and (error := self._not_own(cpu, domid)):
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
        return -EPERM if domid in {0, DOMID_IO, DOMID_XEN} - {self._pv.domid} else -ESRCH

    def _update(self, cpu: Cpu, pointer: int, value: int) -> None:
        kind, address = pointer & 7, pointer & ~7
        if kind == 1:  # MMU_MACHPHYS_UPDATE
            self._mmu.kind(address // PAGE)
            cpu.write_physical(self._pv.m2p + address // PAGE * 8, struct.pack("<Q", value))
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
            result = self._mmuext(cpu, command, one, two)
            if result:
                return result
            if arguments[2]:
                cpu.write(arguments[2], struct.pack("<I", index + 1))
        return 0

    def _mmuext(self, cpu: Cpu, command: int, one: int, two: int) -> int:
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
            return self._unknown(cpu, 26, (command, one, two))
        return 0

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
        table += [self._pv.zero_page] * (GUEST_GDT_PAGES - count)
        leaves = struct.pack(
            f"<{GUEST_GDT_PAGES}Q", *(at | PRESENT | WRITE | ACCESSED | DIRTY for at in table)
        )
        cpu.write_physical(self._pv.gdt_table, leaves)
        return 0

    def _update_descriptor(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        address, value = arguments[0], arguments[1]
        if self._mmu.is_table(address // PAGE):
            raise Refused(f"machine frame {address // PAGE:#x} is a page table")
        self._mmu.kind(address // PAGE)
        cpu.write_physical(address, struct.pack("<Q", descriptor(value)))
        return 0

    def _stack_switch(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        self._kernel_stack = arguments[1]
        return 0

    def _set_callbacks(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        self._syscall_entry = arguments[2]  # those of events and failures are never called
        return 0

    def _callback_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        # CALLBACKOP_register; struct callback_register: uint16_t type, flags; xen_callback_t address
        kind, address = struct.unpack("<H6xQ", cpu.read(arguments[1], 16))
        if arguments[0] == 0 and kind == 2:  # CALLBACKTYPE_syscall
            self._syscall_entry = address
        return 0

    def _fpu_taskswitch(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        self.task_switched = bool(arguments[0])
        return 0

    def _vm_assist(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, kind = arguments[0] & 0xFFFFFFFF, arguments[1] & 0xFFFFFFFF
        if kind not in _ASSISTS:
            return -EINVAL
        if command not in (0, 1):  # VMASST_CMD_enable, VMASST_CMD_disable
            return -ENOSYS
        (self._assists.discard if command else self._assists.add)(kind)
        return 0

    def _set_segment_base(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        which, base = arguments[0] & 0xFFFFFFFF, arguments[1]
        if which < 3 and not traps.is_canonical(base):
            return -EINVAL
        if which == 0:
            cpu.set("fs_base", base)
        elif which == 1:
            self.kernel_gs = base
        elif which == 2:
            cpu.set("gs_base", base)
        elif which == 3:  # SEGBASE_GS_USER_SEL
            kernels = cpu.get("gs_base")
            selector = base & 0xFFFF
            if selector > 3:
                selector = selector | 3 if traps.loads(cpu, selector, code=False) else 0
            cpu.set("gs", selector)
            self.kernel_gs = cpu.get("gs_base")
            cpu.set("gs_base", kernels)
        else:
            return -EINVAL
        return 0

    def _multicall(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        # struct multicall_entry: unsigned long op, result, args[6]
        if self._in_multicall:
            raise Refused("a multicall in a multicall")
        self._in_multicall = True
        try:
            for index in range(arguments[1] & 0xFFFFFFFF):
                at = arguments[0] + 64 * index
                number, _, *inner = struct.unpack("<8Q", cpu.read(at, 64))
                result = self._serve(cpu, number, inner)
                cpu.write(at + 8, struct.pack("<q", result))
        finally:
            self._in_multicall = False
        return 0

    def _memory_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command == 12:  # XENMEM_machphys_mapping
            cpu.write(pointer, struct.pack("<QQQ", M2P_BASE, M2P_END, self._pv.m2p_entries - 1))
            return 0
        if command == XENMEM_MEMORY_MAP and self._pv.privileged:
            return -ENOSYS  # only a toolstack sets one
        if command == 10:  # XENMEM_machine_memory_map: struct xen_memory_map
            if not self._pv.privileged:
                return -EPERM
            room, buffer = struct.unpack("<I4xQ", cpu.read(pointer, 16))
            entries = self._pv.machine_map[:room]
            cpu.write(buffer, b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in entries))
            cpu.write(pointer, struct.pack("<I", len(entries)))
            return 0
        if command in (3, 4):  # XENMEM_current_reservation, maximum_reservation
            return self._pv.frames.count
        if command == 2:  # XENMEM_maximum_ram_page
            return self._pv.m2p_entries - 1
        return super()._memory_op(cpu, arguments)

    def _xen_version(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command == 6:  # XENVER_get_features
            (submap,) = struct.unpack("<I", cpu.read(pointer, 4))
            features = _FEATURES | (_FEATURE_DOM0 if self._pv.privileged else 0)
            features |= _FEATURE_EXTENDED_CR3 if _ASSIST_EXTENDED_CR3 in self._assists else 0
            cpu.write(pointer + 4, struct.pack("<I", features if submap == 0 else 0))
            return 0
        if command == 3:  # XENVER_capabilities: char[1024]
            cpu.write(pointer, b"xen-3.0-x86_64 ".ljust(1024, b"\0"))
            return 0
        if command == 5:  # XENVER_platform_parameters
            cpu.write(pointer, struct.pack("<Q", XEN_START))
            return 0
        if command == 7:  # XENVER_pagesize
            return PAGE
        return super()._xen_version(cpu, arguments)

    def _vcpu_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, vcpu, pointer = arguments[0], arguments[1], arguments[2]
        if vcpu:
            return -ENOENT
        if command == 10:  # VCPUOP_register_vcpu_info: uint64_t mfn; uint32_t offset
            frame, offset = struct.unpack("<QI", cpu.read(pointer, 12))
            if offset > PAGE - start_info.VCPU_INFO_SIZE or offset % 8:
                return -ENXIO
            if self._vcpu_info != self._pv.shared_info:
                raise Refused("vcpu_info has its place already")
            self._mmu.keep_writable(cpu, frame)
            place = frame * PAGE + offset
            cpu.write_physical(place, self._read_vcpu(cpu, 0, start_info.VCPU_INFO_SIZE))
            self._vcpu_info = place
            return 0
        if command == 2:  # VCPUOP_down
            cpu.stop("crash", "VCPUOP_down: the domain's only vCPU goes offline")
            return 0
        if command in (*_PERIODIC, *_RUNSTATE, 8, 13):
            return 1 if command == 3 else 0
        return self._unknown(cpu, 24, arguments)

    def _event_channel_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        given = _GIVES_PORT.get(command)
        if given is not None:
            cpu.write(pointer + given, struct.pack("<I", self._next_port))
            self._next_port += 1
            return 0
        if command in (3, 8, 9, 13):  # close, bind_vcpu, unmask, set_priority
            return 0
        return super()._event_channel_op(cpu, arguments)

    def _grant_table_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        return self._unknown(cpu, 20, arguments)

    def _physdev_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0], arguments[1]
        if command == 6:  # PHYSDEVOP_set_iopl
            (level,) = struct.unpack("<I", cpu.read(pointer, 4))
            if level > 3:
                return -EINVAL
            self.iopl = level
            return 0
        if command == 7:  # PHYSDEVOP_set_iobitmap
            return 0
        return self._unknown(cpu, 33, arguments)
