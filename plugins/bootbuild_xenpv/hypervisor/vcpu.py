"""The vCPU as its guest sets it up, and the hypercalls that do: traps, callbacks, segments, vcpu_info."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL, VCPU_OP
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.hypervisor import traps
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.hypercall import ENOENT, ENXIO, Calls, Note, Refused, UnmodelledError, done
from bootbuild_xenpv.hypervisor.mmu import PAGE, Mmu
from bootbuild_xenpv.hypervisor.traps import Trap

_PERIODIC, _RUNSTATE = (6, 7, 9), (3, 4, 5)  #: VCPUOP_*: timers; is_up and run state


class Vcpu:
    """The domain's one vCPU."""

    def __init__(self, domain: PvDomain, mmu: Mmu, note: Note) -> None:
        self._mmu, self._note = mmu, note
        self._shared_info = domain.shared_info
        self._info = domain.shared_info  #: machine address of vcpu_info
        self.traps: dict[int, Trap] = {}
        self.kernel_stack = domain.kernel_stack
        self.syscall_entry = 0  #: where the guest's kernel takes system calls
        self.iopl = 0
        self.task_switched = False  #: CR0.TS as the guest has it
        self.kernel_gs = 0  #: the GS base that is not in force

    @property
    def calls(self) -> Calls:
        """The hypercalls."""
        return {
            0: (self._set_trap_table, 1),
            3: (self._stack_switch, 2),
            4: (self._set_callbacks, 3),
            5: (self._fpu_taskswitch, 1),
            8: (done, 2),  # set_debugreg
            9: (done, 1),  # get_debugreg
            15: (done, 1),  # set_timer_op: time passes with no interrupt
            VCPU_OP: (self._vcpu_op, 3),
            25: (self._set_segment_base, 2),
            28: (done, 2),  # nmi_op
            30: (self._callback_op, 2),
        }

    # -- vcpu_info

    def read_info(self, cpu: Cpu, offset: int, size: int) -> bytes:
        """Bytes of struct vcpu_info."""
        return cpu.read_physical(self._info + offset, size)

    def write_info(self, cpu: Cpu, offset: int, data: bytes) -> None:
        """Write within struct vcpu_info."""
        cpu.write_physical(self._info + offset, data)

    def faulted_at(self, cpu: Cpu) -> int:
        """CR2 as the guest has it: what vcpu_info says of the last page fault."""
        return int.from_bytes(self.read_info(cpu, start_info.CR2, 8), "little")

    def load_root(self, cpu: Cpu, address: int) -> bool:
        """A move to CR3, as Xen emulates it; False raises #GP."""
        try:
            self._mmu.new_root(cpu, address // PAGE)
        except Refused as reason:
            self._note(cpu, f"MOV to CR3: {reason}")
            return False
        return True

    # -- hypercalls

    def _set_trap_table(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        if not arguments[0]:
            self.traps.clear()
        else:
            self.traps |= traps.read_table(cpu, arguments[0])
        return 0

    def _stack_switch(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        self.kernel_stack = arguments[1]
        return 0

    def _set_callbacks(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        self.syscall_entry = arguments[2]  # those of events and failures are never called
        return 0

    def _callback_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        # CALLBACKOP_register; struct callback_register: uint16_t type, flags; xen_callback_t address
        kind, address = struct.unpack("<H6xQ", cpu.read(arguments[1], 16))
        if arguments[0] == 0 and kind == 2:  # CALLBACKTYPE_syscall
            self.syscall_entry = address
        return 0

    def _fpu_taskswitch(self, _cpu: Cpu, arguments: Sequence[int]) -> int:
        self.task_switched = bool(arguments[0])
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

    def _vcpu_op(self, cpu: Cpu, arguments: Sequence[int]) -> int:
        command, vcpu, pointer = arguments[0], arguments[1], arguments[2]
        if vcpu:
            return -ENOENT
        if command == 10:  # VCPUOP_register_vcpu_info: uint64_t mfn; uint32_t offset
            frame, offset = struct.unpack("<QI", cpu.read(pointer, 12))
            if offset > PAGE - start_info.VCPU_INFO_SIZE or offset % 8:
                return -ENXIO
            if self._info != self._shared_info:
                raise Refused("vcpu_info has its place already")
            self._mmu.keep_writable(cpu, frame)
            place = frame * PAGE + offset
            cpu.write_physical(place, self.read_info(cpu, 0, start_info.VCPU_INFO_SIZE))
            self._info = place
            return 0
        if command == 2:  # VCPUOP_down
            cpu.stop("crash", "VCPUOP_down: the domain's only vCPU goes offline")
            return 0
        if command in (*_PERIODIC, *_RUNSTATE, 8, 13):
            return 1 if command == 3 else 0
        raise UnmodelledError(arguments)
