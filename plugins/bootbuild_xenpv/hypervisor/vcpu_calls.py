"""Hypercalls that set up the vCPU: xen/arch/x86/pv/{callback,misc-hypercalls}.c, xen/common/domain.c."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL, ENOSYS, EPERM, VCPU_OP
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.hypervisor import event_channels, traps
from bootbuild_xenpv.hypervisor.domain import LOW_END, XEN_END, PvDomain
from bootbuild_xenpv.hypervisor.event_channels import EventChannels
from bootbuild_xenpv.hypervisor.hypercall import (
    EEXIST,
    ENODEV,
    ENOENT,
    ENXIO,
    BadAddressError,
    Calls,
    Refused,
    UnmodelledError,
)
from bootbuild_xenpv.hypervisor.mmu import PAGE, Mmu
from bootbuild_xenpv.hypervisor.traps import TI_IF, Trap
from bootbuild_xenpv.hypervisor.vcpu import EVENT, FAILSAFE, SYSCALL, Vcpu

_NMI, _NMI_CALLBACK = 2, 4  #: the vector, and CALLBACKTYPE_nmi
_KEPT_CALLBACKS = (EVENT, FAILSAFE, SYSCALL, 5, 7)  #: and CALLBACKTYPE_sysenter, _syscall32
_MASK_EVENTS = 1  #: CALLBACKF_mask_events
_CONTEXT_SIZE = 5168  #: struct vcpu_guest_context
_RUNSTATE = struct.Struct("<I4xQ4Q")  #: struct vcpu_runstate_info: state, state_entry_time, time[4]
_MILLISECOND, _LONGEST = 1_000_000, (1 << 62) - 1  #: MILLISECS(1), STIME_DELTA_MAX
_DR_ALIAS = {4: 6, 5: 7}  #: without CR4.DE
_DR_RESERVED = {6: (0x1000, 0xFFFF0FF0), 7: (0xD800, 0x400)}  #: as zero and as one: asm-x86/debugreg.h
_DR7_DETECT, _DR7_ACTIVE, _DR7_IO = 1 << 13, 0xFF, 2  #: GD; L0 to G3; an R/W field for ports


class VcpuCalls:
    """What a guest's kernel asks for its vCPU."""

    def __init__(self, domain: PvDomain, vcpu: Vcpu, events: EventChannels, mmu: Mmu) -> None:
        self._domain, self._vcpu, self._events, self._mmu = domain, vcpu, events, mmu
        self._first_info = vcpu.info

    @property
    def calls(self) -> Calls:
        """What they are."""
        return {
            0: (self._set_trap_table, 1),
            3: (self._stack_switch, 2),
            4: (self._set_callbacks, 3),
            5: (self._fpu_taskswitch, 1),
            8: (self._set_debugreg, 2),
            9: (self._get_debugreg, 1),
            15: (self._set_timer_op, 1),
            VCPU_OP: (self._vcpu_op, 3),
            25: (self._set_segment_base, 2),
            28: (self._nmi_op, 2),
            30: (self._callback_op, 2),
        }

    # -- where the guest's kernel is entered

    def _set_trap_table(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        if not arguments[0]:
            self._vcpu.traps.clear()
        else:
            self._vcpu.traps |= traps.read_table(cpu, arguments[0])
        return 0

    def _stack_switch(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        self._vcpu.kernel_stack = arguments[1]
        return 0

    def _set_callbacks(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        for kind, address in zip((EVENT, FAILSAFE, SYSCALL), arguments, strict=False):
            self._register(kind, 0, address)  # one that is no address is left as it was, without a word
        return 0

    def _register(self, kind: int, flags: int, address: int) -> int:
        if not traps.is_canonical(address):
            return -EINVAL
        masks = TI_IF if flags & _MASK_EVENTS or kind == EVENT else 0
        if kind in _KEPT_CALLBACKS:
            self._vcpu.callbacks[kind] = Trap(masks, traps.KERNEL_CS, address)
        elif kind == _NMI_CALLBACK:
            self._vcpu.traps[_NMI] = Trap(TI_IF, traps.KERNEL_CS, address)
        else:
            return -ENOSYS
        return 0

    def _callback_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command = arguments[0] & 0xFFFFFFFF
        if command == 0:  # CALLBACKOP_register; struct callback_register: uint16_t type, flags; address
            return self._register(*struct.unpack("<HH4xQ", cpu.read(arguments[1], 16)))
        if command == 1:  # CALLBACKOP_unregister: uint16_t type
            (kind,) = struct.unpack("<H", cpu.read(arguments[1], 4)[:2])
            if kind == _NMI_CALLBACK:
                self._vcpu.traps.pop(_NMI, None)
                return 0
            return -EINVAL if kind in _KEPT_CALLBACKS else -ENOSYS
        raise UnmodelledError(arguments)

    def _nmi_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command = arguments[0] & 0xFFFFFFFF
        if command == 0:  # XENNMI_register_callback: unsigned long handler_address, context
            return self._register(_NMI_CALLBACK, 0, struct.unpack("<Q8x", cpu.read(arguments[1], 16))[0])
        if command == 1:
            self._vcpu.traps.pop(_NMI, None)
            return 0
        raise UnmodelledError(arguments)

    # -- registers

    def _fpu_taskswitch(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        self._vcpu.task_switched = bool(arguments[0] & 0xFFFFFFFF)
        return 0

    def _set_debugreg(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        number, value = arguments[0] & 0xFFFFFFFF, arguments[1]
        number = _DR_ALIAS.get(number, number)
        if number < 4:
            if LOW_END <= value < XEN_END:
                return -EPERM
            self._vcpu.debug[number] = value
            return 0
        if number not in _DR_RESERVED:
            return -ENODEV
        if value >> 32:
            return -EINVAL
        if number == 7 and (value & _DR7_DETECT or (value & _DR7_ACTIVE and _watches_ports(value))):
            return -EPERM
        zeros, ones = _DR_RESERVED[number]
        self._vcpu.debug[number] = value & ~zeros | ones
        return 0

    def _get_debugreg(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        number = arguments[0] & 0xFFFFFFFF
        value = self._vcpu.debug.get(_DR_ALIAS.get(number, number))
        if value is None:
            return -ENODEV
        return value - (1 << 64) if value >> 63 else value

    def _set_segment_base(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        which, base = arguments[0] & 0xFFFFFFFF, arguments[1]
        if which < 3 and not traps.is_canonical(base):
            return -EINVAL
        if which == 0:
            cpu.set("fs_base", base)
        elif which == 1:
            self._vcpu.kernel_gs = base
        elif which == 2:
            cpu.set("gs_base", base)
        elif which == 3:  # SEGBASE_GS_USER_SEL
            kernels = cpu.get("gs_base")
            selector = base & 0xFFFF
            if selector > 3:
                selector = selector | 3 if traps.loads(cpu, selector) else 0
            cpu.set("gs", selector)
            self._vcpu.kernel_gs = cpu.get("gs_base")
            cpu.set("gs_base", kernels)
        else:
            return -EINVAL
        return 0

    # -- vcpu_op

    def _vcpu_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, vcpu, pointer = arguments[0] & 0xFFFFFFFF, arguments[1] & 0xFFFFFFFF, arguments[2]
        if vcpu:
            return -ENOENT
        serve = self._vcpu_ops.get(command)
        if serve is None:
            raise UnmodelledError(arguments)
        return serve(self, cpu, pointer)

    def _initialise(self, cpu: Cpu, pointer: int) -> int:
        cpu.read(pointer, _CONTEXT_SIZE)
        return -EEXIST

    def _down(self, cpu: Cpu, _pointer: int) -> int:
        cpu.stop("shutdown", "VCPUOP_down: the domain's only vCPU goes offline, which is a poweroff")
        return 0

    def _get_runstate(self, cpu: Cpu, pointer: int) -> int:
        cpu.write(pointer, _RUNSTATE.pack(0, 0, self._vcpu.system_time(cpu), 0, 0, 0))  # RUNSTATE_running
        return 0

    def _register_runstate(self, cpu: Cpu, pointer: int) -> int:
        (area,) = struct.unpack("<Q", cpu.read(pointer, 8))
        cpu.read(area, 0)
        _try_to_write(cpu, area, _RUNSTATE.pack(0, 0, self._vcpu.system_time(cpu), 0, 0, 0))
        return 0

    def _set_periodic(self, cpu: Cpu, pointer: int) -> int:
        (period,) = struct.unpack("<Q", cpu.read(pointer, 8))
        return 0 if _MILLISECOND <= period <= _LONGEST else -EINVAL

    def _set_single_shot(self, cpu: Cpu, pointer: int) -> int:
        # struct vcpu_set_singleshot_timer: uint64_t timeout_abs_ns; uint32_t flags
        self._arm(cpu, struct.unpack("<Q8x", cpu.read(pointer, 16))[0])
        return 0

    def _stop_single_shot(self, _cpu: Cpu, _pointer: int) -> int:
        self._vcpu.timeout = None
        return 0

    def _set_timer_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        if arguments[0]:
            self._arm(cpu, arguments[0])
        else:
            self._vcpu.timeout = None
        return 0

    def _arm(self, cpu: Cpu, timeout: int) -> None:
        self._vcpu.timeout = timeout
        self.look_at_the_clock(cpu)

    def look_at_the_clock(self, cpu: Cpu) -> None:
        """The single-shot timer's event, if it is time."""
        timeout = self._vcpu.timeout
        if timeout is not None and timeout <= self._vcpu.system_time(cpu):
            self._vcpu.timeout = None
            self._events.raise_virq(cpu, event_channels.TIMER)

    def wait(self, cpu: Cpu) -> None:
        """Let time pass up to that event, if one is to come."""
        if self._vcpu.timeout is not None:
            self._vcpu.let_pass(cpu, self._vcpu.timeout)
            self.look_at_the_clock(cpu)

    def _register_info(self, cpu: Cpu, pointer: int) -> int:
        # struct vcpu_register_vcpu_info: uint64_t mfn; uint32_t offset
        frame, offset = struct.unpack("<QI4x", cpu.read(pointer, 16))
        if offset > PAGE - start_info.VCPU_INFO_SIZE or offset % 8:
            return -ENXIO
        if self._vcpu.info != self._first_info:
            raise Refused("vcpu_info has its place already")
        self._mmu.keep_writable(cpu, frame)
        place = frame * PAGE + offset
        cpu.write_physical(place, self._vcpu.read_info(cpu, 0, start_info.VCPU_INFO_SIZE))
        self._vcpu.info = place
        return 0

    def _send_nmi(self, _cpu: Cpu, pointer: int) -> int:
        if pointer:
            return -EINVAL
        if _NMI in self._vcpu.traps:
            raise UnmodelledError((11, 0, pointer))
        return 0

    def _get_physid(self, cpu: Cpu, pointer: int) -> int:
        if not self._domain.privileged:
            return -EINVAL  # of a pinned vCPU of the control domain alone: here is one processor
        cpu.write(pointer, bytes(8))  # struct vcpu_get_physid: APIC ID, ACPI ID
        return 0

    def _register_time(self, cpu: Cpu, pointer: int) -> int:
        (area,) = struct.unpack("<Q", cpu.read(pointer, 8))
        cpu.read(area, 0)
        _try_to_write(cpu, area, self._vcpu.read_info(cpu, start_info.TIME, 32))
        return 0

    _vcpu_ops: ClassVar[Mapping[int, Callable[[VcpuCalls, Cpu, int], int]]] = {  # VCPUOP_*
        0: _initialise,
        1: lambda _self, _cpu, _pointer: 0,  # up
        2: _down,
        3: lambda _self, _cpu, _pointer: 1,  # is_up
        4: _get_runstate,
        5: _register_runstate,
        6: _set_periodic,
        7: lambda _self, _cpu, _pointer: 0,  # stop_periodic_timer
        8: _set_single_shot,
        9: _stop_single_shot,
        10: _register_info,
        11: _send_nmi,
        12: _get_physid,
        13: _register_time,
    }


def _watches_ports(dr7: int) -> bool:
    return any(dr7 >> shift & 3 == _DR7_IO for shift in range(16, 32, 4))


def _try_to_write(cpu: Cpu, area: int, data: bytes) -> None:
    """Areas that Xen writes on its own: that it could not is told to nobody."""
    try:
        cpu.write(area, data)
    except BadAddressError:
        return
