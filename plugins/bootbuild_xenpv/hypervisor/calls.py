"""The hypercalls of a PV guest: who serves which, and those that ask about the domain and its host.

Numbers and structures: xen/include/public/{xen,memory,version,physdev,event_channel}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import EFAULT, EINVAL, ENOSYS, EPERM, XENMEM_MEMORY_MAP, Xen, XenDomain
from bootbuild_xenpv.hypervisor.domain import M2P_BASE, M2P_END, XEN_START, PvDomain
from bootbuild_xenpv.hypervisor.event_channels import EventChannels
from bootbuild_xenpv.hypervisor.grants import GrantTable
from bootbuild_xenpv.hypervisor.hypercall import (
    GRANT_TABLE_OP,
    MULTICALL,
    STEPS,
    BadAddressError,
    Calls,
    PreemptedError,
    Refused,
    UnmodelledError,
)
from bootbuild_xenpv.hypervisor.memory_calls import MemoryCalls
from bootbuild_xenpv.hypervisor.mmu import PAGE, WORK, Mmu
from bootbuild_xenpv.hypervisor.vcpu import Vcpu
from bootbuild_xenpv.hypervisor.vcpu_calls import VcpuCalls
from bootbuild_xenpv.hypervisor.vcpu_op import VcpuOp

# What a PV domain is told (xen/common/kernel.c, XENVER_get_features): mmu_pt_update_preserve_ad,
# highmem_assist, gnttab_map_avail_bits, memory_op_vnode_supported, direct_mapped
_FEATURES = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17
_FEATURE_EXTENDED_CR3, _FEATURE_DOM0 = 1 << 4, 1 << 11
_ASSIST_EXTENDED_CR3 = 3  #: VMASST_TYPE_pae_extended_cr3
_ASSISTS = (*range(6), 32)  #: PV64_VM_ASSIST_MASK
_NAMES = {0: "set_trap_table", 1: "mmu_update", 2: "set_gdt", 14: "update_va_mapping", 26: "mmuext_op"}


class PvCalls(Xen):
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
        self._vcpu = Vcpu(domain, self._mmu, self._note)
        self._events = EventChannels(domain, self._vcpu, self._notified)
        self._grants = GrantTable(domain)
        self._vcpu_op = VcpuOp(domain, self._vcpu, self._events, self._mmu)
        self._refusal = ""  #: the last thing that was refused, for the report of a crash
        self._assists = {_ASSIST_EXTENDED_CR3} if domain.extended_cr3 else set[int]()
        self._in_multicall = False
        about_the_domain: Calls = {
            MULTICALL: (self._multicall, 2),
            GRANT_TABLE_OP: (self._grants.serve, 3),
            21: (self._vm_assist, 2),
            33: (self._physdev_op, 2),
        }
        memory = MemoryCalls(domain, self._mmu, self._note)
        vcpu = VcpuCalls(self._vcpu)
        self.calls.update({**memory.calls, **vcpu.calls, **self._vcpu_op.calls, **about_the_domain})

    def _note(self, cpu: Cpu, refusal: str) -> None:
        self._refusal = refusal
        cpu.record("refused", refusal)

    def _serve(self, cpu: Cpu, number: int, arguments: Sequence[int]) -> int:
        serve, _ = self.calls.get(number, (None, 0))
        try:
            return serve(cpu, arguments) if serve else self.unmodelled(cpu, number, arguments)
        except BadAddressError:
            return -EFAULT
        except UnmodelledError as call:
            return self.unmodelled(cpu, number, call.arguments)
        except Refused as reason:
            self._note(cpu, f"{_NAMES.get(number, f'hypercall {number}')}: {reason}")
            return -reason.error

    def _multicall(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        # struct multicall_entry: unsigned long op, result, args[6]
        if self._in_multicall:
            raise Refused("a multicall in a multicall")
        at, left = arguments[0], arguments[1] & 0xFFFFFFFF
        cpu.read(at, 0)
        end = max(0, left - STEPS)
        self._in_multicall = True
        try:
            while left > end and self._mmu.work < WORK:
                number, _, *inner = struct.unpack("<8Q", cpu.read(at, 64))
                try:
                    result = self._serve(cpu, number, inner)
                except PreemptedError as rest:
                    cpu.write(at + 16, struct.pack(f"<{len(rest.arguments)}Q", *rest.arguments))
                    raise PreemptedError((at, left)) from rest
                cpu.write(at + 8, struct.pack("<q", result))
                at, left = at + 64, left - 1
        finally:
            self._in_multicall = False
        if left:
            raise PreemptedError((at, left))
        return 0

    def _vm_assist(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, kind = arguments[0] & 0xFFFFFFFF, arguments[1] & 0xFFFFFFFF
        if kind not in _ASSISTS:
            return -EINVAL
        if command not in (0, 1):  # VMASST_CMD_enable, VMASST_CMD_disable
            return -ENOSYS
        (self._assists.discard if command else self._assists.add)(kind)
        return 0

    def memory_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
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
        return super().memory_op(cpu, arguments)

    def xen_version(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0] & 0xFFFFFFFF, arguments[1]
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
        return super().xen_version(cpu, arguments)

    def sched_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command = arguments[0] & 0xFFFFFFFF
        if command == 1:  # SCHEDOP_block: until there is an event, which then is not masked
            self._vcpu.mask_events(cpu, False)
        answer = super().sched_op(cpu, arguments)
        if command == 1 and not self._vcpu.has_event(cpu):
            self._vcpu_op.wait(cpu)
        return answer

    def event_channel_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        return self._events.serve(cpu, arguments[0] & 0xFFFFFFFF, arguments[1])

    def _notified(self, cpu: Cpu, port: int) -> None:
        if port == self._pv.console_port:
            self.drain_console(cpu)

    def drain_console(self, cpu: Cpu) -> None:
        before = len(self.console)
        super().drain_console(cpu)
        if len(self.console) > before:
            self._events.raise_port(cpu, self._pv.console_port)  # there is room again (xenconsoled)

    def _physdev_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, pointer = arguments[0] & 0xFFFFFFFF, arguments[1]
        if command == 6:  # PHYSDEVOP_set_iopl
            (level,) = struct.unpack("<I", cpu.read(pointer, 4))
            if level > 3:
                return -EINVAL
            self._vcpu.iopl = level
            return 0
        if command == 7:  # PHYSDEVOP_set_iobitmap: the bitmap's address, uint32_t nr_ports
            bitmap, ports = struct.unpack("<QI4x", cpu.read(pointer, 16))
            cpu.read(bitmap, 0)
            return -EINVAL if ports > 0x10000 else 0
        raise UnmodelledError(arguments)
