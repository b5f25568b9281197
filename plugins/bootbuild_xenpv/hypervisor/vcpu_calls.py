"""Hypercalls that set up the vCPU: xen/arch/x86/pv/{callback,misc-hypercalls}.c."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL, ENOSYS, EPERM
from bootbuild_xenpv.hypervisor import traps
from bootbuild_xenpv.hypervisor.domain import is_guests
from bootbuild_xenpv.hypervisor.hypercall import (
    ENODEV,
    STEPS,
    Calls,
    PreemptedError,
    UnmodelledError,
)
from bootbuild_xenpv.hypervisor.traps import TI_IF, Trap
from bootbuild_xenpv.hypervisor.vcpu import EVENT, FAILSAFE, SYSCALL, Vcpu

NMI, _NMI_CALLBACK = 2, 4  #: the vector, and CALLBACKTYPE_nmi
_KEPT_CALLBACKS = (EVENT, FAILSAFE, SYSCALL, 5, 7)  #: and CALLBACKTYPE_sysenter, _syscall32
_MASK_EVENTS = 1  #: CALLBACKF_mask_events
_DR_ALIAS = {4: 6, 5: 7}  #: without CR4.DE
_DR_RESERVED = {6: (0x1000, 0xFFFF0FF0), 7: (0xD800, 0x400)}  #: as zero and as one: asm-x86/debugreg.h
_DR7_DETECT, _DR7_ACTIVE, _DR7_IO = 1 << 13, 0xFF, 2  #: GD; L0 to G3; an R/W field for ports


class VcpuCalls:
    """What a guest's kernel asks for its vCPU."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu

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
            25: (self._set_segment_base, 2),
            28: (self._nmi_op, 2),
            30: (self._callback_op, 2),
        }

    # -- where the guest's kernel is entered

    def _set_trap_table(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        at = arguments[0]
        if not at:
            self._vcpu.traps.clear()
            return 0
        for _ in range(STEPS):
            vector, trap = traps.read_entry(cpu, at)
            if not trap.address:
                return 0
            if not traps.is_canonical(trap.address):
                return -EINVAL
            self._vcpu.traps[vector] = trap
            at += traps.ENTRY_SIZE
        raise PreemptedError((at,))

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
            self._vcpu.traps[NMI] = Trap(TI_IF, traps.KERNEL_CS, address)
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
                self._vcpu.traps.pop(NMI, None)
                return 0
            return -EINVAL if kind in _KEPT_CALLBACKS else -ENOSYS
        raise UnmodelledError(arguments)

    def _nmi_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command = arguments[0] & 0xFFFFFFFF
        if command == 0:  # XENNMI_register_callback: unsigned long handler_address, context
            return self._register(_NMI_CALLBACK, 0, struct.unpack("<Q8x", cpu.read(arguments[1], 16))[0])
        if command == 1:
            self._vcpu.traps.pop(NMI, None)
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
            if not is_guests(value):
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


def _watches_ports(dr7: int) -> bool:
    return any(dr7 >> shift & 3 == _DR7_IO for shift in range(16, 32, 4))
