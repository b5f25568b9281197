"""The hypercalls vcpu_op and set_timer_op: run state, vcpu_info and timers (xen/common/domain.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL, VCPU_OP
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.hypervisor import event_channels
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.event_channels import EventChannels
from bootbuild_xenpv.hypervisor.hypercall import (
    EEXIST,
    ENOENT,
    ENXIO,
    BadAddressError,
    Calls,
    Refused,
    UnmodelledError,
)
from bootbuild_xenpv.hypervisor.mmu import PAGE, Mmu
from bootbuild_xenpv.hypervisor.vcpu import Vcpu
from bootbuild_xenpv.hypervisor.vcpu_calls import NMI

_CONTEXT_SIZE = 5168  #: struct vcpu_guest_context
_RUNSTATE = struct.Struct("<I4xQ4Q")  #: struct vcpu_runstate_info: state, state_entry_time, time[4]
_MILLISECOND, _LONGEST = 1_000_000, (1 << 62) - 1  #: MILLISECS(1), STIME_DELTA_MAX

_TOO_FAR, _INSTEAD = 50, 100 * _MILLISECOND  #: a timeout of set_timer_op 2^50 ns ahead is one 100 ms ahead


class VcpuOp:
    """What a guest asks of its vCPU, and the single-shot timer."""

    def __init__(self, domain: PvDomain, vcpu: Vcpu, events: EventChannels, mmu: Mmu) -> None:
        self._domain, self._vcpu, self._events, self._mmu = domain, vcpu, events, mmu
        self._first_info = vcpu.info

    @property
    def calls(self) -> Calls:
        """The two hypercalls."""
        return {15: (self._set_timer_op, 1), VCPU_OP: (self._vcpu_op, 3)}

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
        timeout, now = arguments[0], self._vcpu.system_time(cpu)
        if not timeout:
            self._vcpu.timeout = None
        elif timeout >> 63 or timeout - now >= 1 << _TOO_FAR:
            self._arm(cpu, now + _INSTEAD)
        else:
            self._arm(cpu, timeout)
        return 0

    def _arm(self, cpu: Cpu, timeout: int) -> None:
        self._vcpu.timeout = 0 if timeout >> 63 else timeout  # s_time_t: negative, which is long ago
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
        if NMI in self._vcpu.traps:
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

    _vcpu_ops: ClassVar[Mapping[int, Callable[[VcpuOp, Cpu, int], int]]] = {  # VCPUOP_*
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


def _try_to_write(cpu: Cpu, area: int, data: bytes) -> None:
    """Areas that Xen writes on its own: that it could not is told to nobody."""
    try:
        cpu.write(area, data)
    except BadAddressError:
        return
