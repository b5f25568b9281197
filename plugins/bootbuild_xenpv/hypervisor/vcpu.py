"""The domain's one vCPU as its guest has set it up: traps, callbacks, stack, vcpu_info and its clock."""

from __future__ import annotations

import struct

from bootbuild.api import Cpu
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.hypercall import Note, Refused
from bootbuild_xenpv.hypervisor.mmu import M64, PAGE, Mmu
from bootbuild_xenpv.hypervisor.traps import KERNEL_CS, Trap

EVENT, FAILSAFE, SYSCALL = 0, 1, 2  #: CALLBACKTYPE_*: xen/include/public/callback.h
_UPCALL_PENDING = 0  #: in vcpu_info, and evtchn_upcall_mask behind it
_DEBUG = {6: 0xFFFF0FF0, 7: 0x400}
_CR0_TS = 1 << 3


class Vcpu:
    """What hypercalls change and traps look at."""

    def __init__(self, domain: PvDomain, mmu: Mmu, note: Note) -> None:
        self._mmu, self._note = mmu, note
        self.info = domain.shared_info  #: machine address of vcpu_info
        self.traps: dict[int, Trap] = {}
        self.callbacks: dict[int, Trap] = {}
        self.kernel_stack = domain.kernel_stack
        self.iopl = 0
        self.task_switched = False  #: CR0.TS as the guest has it
        self.kernel_gs = 0  #: the GS base that is not in force
        self.debug = dict.fromkeys(range(4), 0) | _DEBUG  #: debug registers
        self._passed = 0  #: ns that passed while the domain waited
        self.timeout: int | None = None  #: of the single-shot timer, ns of system time

    def callback(self, kind: int) -> Trap:
        """Where the guest's kernel takes events or system calls; at address 0 if it said nothing."""
        return self.callbacks.get(kind, Trap(0, KERNEL_CS, 0))

    # -- vcpu_info

    def read_info(self, cpu: Cpu, offset: int, size: int) -> bytes:
        """Bytes of struct vcpu_info."""
        return cpu.read_physical(self.info + offset, size)

    def write_info(self, cpu: Cpu, offset: int, data: bytes) -> None:
        """Write within struct vcpu_info."""
        cpu.write_physical(self.info + offset, data)

    def has_event(self, cpu: Cpu) -> bool:
        """Whether an event is pending and not masked."""
        pending, masked = self.read_info(cpu, _UPCALL_PENDING, 2)
        return bool(pending) and not masked

    def mask_events(self, cpu: Cpu, masked: bool) -> None:
        """evtchn_upcall_mask."""
        self.write_info(cpu, start_info.UPCALL_MASK, bytes([masked]))

    def faulted_at(self, cpu: Cpu) -> int:
        """CR2 as the guest has it: what vcpu_info says of the last page fault."""
        return int.from_bytes(self.read_info(cpu, start_info.CR2, 8), "little")

    # -- time

    def system_time(self, cpu: Cpu) -> int:
        """Nanoseconds since the domain began: of the TSC, which counts as many, and those let pass.

        The guest is told of them in its struct vcpu_time_info; what it writes there changes nothing.
        """
        return cpu.get("tsc") + self._passed & M64

    def let_pass(self, cpu: Cpu, until: int) -> None:
        """Nothing happens up to that system time."""
        passed = until - self.system_time(cpu)
        if passed > 0:
            self._passed += passed
            (version,) = struct.unpack("<I", self.read_info(cpu, start_info.TIME, 4))
            self.write_info(cpu, start_info.TIME, start_info.clock(version + 2 & 0xFFFFFFFE, self._passed))

    # -- control registers

    def load_root(self, cpu: Cpu, address: int) -> bool:
        """A move to CR3, as Xen emulates it; False raises #GP."""
        try:
            self._mmu.new_root(cpu, address // PAGE)
        except Refused as reason:
            self._note(cpu, f"MOV to CR3: {reason}")
            return False
        return True

    def show_task_switched(self, cpu: Cpu) -> None:
        """Make the core's CR0.TS the guest's, so that its next FPU instruction raises #NM."""
        cr0 = cpu.get("cr0")
        if bool(cr0 & _CR0_TS) != self.task_switched:
            cpu.set("cr0", cr0 ^ _CR0_TS)
