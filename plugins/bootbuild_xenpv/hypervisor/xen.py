"""Xen under one PV domain: where its traps end, and the way in and out of a hypercall."""

from __future__ import annotations

import struct

from bootbuild.api import Cpu
from bootbuild.platform.xen import ENOSYS
from bootbuild_xenpv.environments import start_info
from bootbuild_xenpv.hypervisor import cpuid, instructions, privileged, stores, traps
from bootbuild_xenpv.hypervisor.calls import PvCalls
from bootbuild_xenpv.hypervisor.copies import copies
from bootbuild_xenpv.hypervisor.cpuid import Cpuid
from bootbuild_xenpv.hypervisor.domain import PvDomain
from bootbuild_xenpv.hypervisor.frame_types import L1
from bootbuild_xenpv.hypervisor.hypercall import IRET, PreemptedError, Refused
from bootbuild_xenpv.hypervisor.mmu import M64, PAGE
from bootbuild_xenpv.hypervisor.ports import FaultError
from bootbuild_xenpv.hypervisor.traps import IretFrame, Place, Trap
from bootbuild_xenpv.hypervisor.vcpu import EVENT, SYSCALL
from bootbuild_xenpv.rules import BAD_IRET, PRIVILEGED, REFUSED_UPDATE, STACK, TABLE_WRITE, UNHANDLED

UD, NM, GP, PF = 6, 7, 13, 14
_SYSCALL_SIZE, _DF = 2, 1 << 10
_CRASHES = "Xen says `domain_crash_sync called from entry.S` and ends the domain"
_SOFTWARE = (3, 4)  #: INT3 and INTO raise exceptions of their own
_INT80 = 0x80  #: has a gate of its own, which asks for no DPL (int80_direct_trap)
_PAGE_FAULT_WRITE, _PAGE_FAULT_USER = 2, 4
_ASSIST_WRITABLE, _ASSIST_ARCHITECTURAL_IOPL = 2, 4  #: VMASST_TYPE_writable_pagetables, architectural_iopl
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")  #: arch-x86/xen-x86_64.h


class XenPv(PvCalls):
    """One vCPU in ring 3."""

    def __init__(
        self, domain: PvDomain, *, version: tuple[int, int], extra_version: str, clobber: int | None = None
    ) -> None:
        super().__init__(domain, version=version, extra_version=extra_version, clobber=clobber)
        self._emulation = privileged.Emulation(self._vcpu)
        self._kernel_mode = True

    # -- traps

    def syscall(self, cpu: Cpu) -> bool:
        """A hypercall of the guest's kernel: number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9."""
        self._mmu.start(cpu)
        self._mmu.work = 0
        if not self._kernel_mode:
            self._user_syscall(cpu)
        elif cpu.get("rax") == IRET:
            self._iret(cpu)
        else:
            self._hypercall(cpu)
        self._leave(cpu)
        return True

    def _hypercall(self, cpu: Cpu) -> None:
        ip, number = cpu.get("rip"), cpu.get("rax")
        after = ip + _SYSCALL_SIZE
        try:
            result = self._serve(copies(cpu, self._mmu), number, [cpu.get(name) for name in _ARGUMENTS])
        except PreemptedError as rest:
            after, result = ip, number
            for name, value in zip(_ARGUMENTS, rest.arguments, strict=False):
                cpu.set(name, value)
        else:
            if self.clobber is not None and result != -ENOSYS:
                for name in _ARGUMENTS[: self.calls.get(number, (None, 0))[1]]:
                    cpu.set(name, self.clobber)
        cpu.set("rax", result & 2**64 - 1)
        cpu.set("rcx", after)
        cpu.set("r11", cpu.get("rflags"))
        cpu.set("rip", after)

    def _leave(self, cpu: Cpu) -> None:
        """test_all_events: an event that is pending and not masked comes first."""
        self._vcpu.show_task_switched(cpu)
        self._vcpu_op.look_at_the_clock(cpu)
        if not self._vcpu.has_event(cpu):
            return
        upcall = self._vcpu.callback(EVENT)
        if upcall.address:
            self._deliver(cpu, upcall, "an event", None)
        else:
            text = f"an event is pending at {cpu.get('rip'):#x}, not masked, and there is no event callback"
            cpu.stop("crash", f"{text}. {_CRASHES}", UNHANDLED.id)

    def _user_syscall(self, cpu: Cpu) -> None:
        """A system call of the guest's user mode, for its kernel (lstar_enter, x86_64/entry.S)."""
        after = cpu.get("rip") + _SYSCALL_SIZE
        entry = self._vcpu.callback(SYSCALL)
        if not entry.address:
            self._bounce(cpu, UD, 0, b"")
            return
        cpu.set("rcx", after)
        cpu.set("r11", cpu.get("rflags"))
        cpu.set("rip", after)
        self._deliver(cpu, entry, "system call", None)
        cpu.set("rflags", cpu.get("rflags") & ~_DF)

    def _switch_mode(self, cpu: Cpu, *, kernel: bool) -> None:
        """toggle_guest_mode: page tables and GS base of the guest's kernel, or of its user mode."""
        self._kernel_mode = kernel
        cpu.set("cr3", (self._mmu.root if kernel else self._mmu.user_root) * PAGE)
        base = cpu.get("gs_base")
        cpu.set("gs_base", self._vcpu.kernel_gs)
        self._vcpu.kernel_gs = base

    def hypercall(self, cpu: Cpu, instruction: str) -> bool:
        return False  # VMCALL and VMMCALL are an HVM guest's: #UD here

    def exception(self, cpu: Cpu, vector: int, error_code: int) -> bool:
        self._mmu.start(cpu)
        code = self._code(cpu)
        try:
            emulated = self._emulated(cpu, vector, error_code, code)
        except FaultError as fault:
            cpu.set("cr2", fault.address)
            emulated, vector, error_code = False, fault.vector, fault.error_code
        if not emulated:
            if vector == NM:
                self._vcpu.task_switched = False  # do_device_not_available: told once
            self._bounce(cpu, vector, error_code, code)
        self._leave(cpu)
        return True

    def _emulated(self, cpu: Cpu, vector: int, error_code: int, code: bytes) -> bool:
        """Whether Xen has done what faulted, and the guest goes on behind it. Raises FaultError."""
        if vector == UD and code.startswith(instructions.FORCED_CPUID):
            self._forced_cpuid(cpu)
            return True
        if vector == PF and self._kernel_mode and self._store(cpu, error_code, code):
            return True
        privileged_here = vector == GP and not error_code and instructions.name(code)
        return bool(privileged_here) and self._emulation.emulate(copies(cpu, self._mmu), code, self._cpl())

    def _cpl(self) -> int:
        """As which privilege ring 3 counts where IOPL is asked for (iopl_ok)."""
        if not self._kernel_mode:
            return privileged.USER
        return 0 if _ASSIST_ARCHITECTURAL_IOPL in self._assists else 1

    def _store(self, cpu: Cpu, error_code: int, code: bytes) -> bool:
        """ptwr_do_page_fault: a store to a table of level 1, made as an update of its entry."""
        address = cpu.get("cr2")
        physical = cpu.translate(address)
        wanted = _ASSIST_WRITABLE in self._assists and error_code & 3 == 3 and physical is not None
        if not wanted or physical is None or address % 8 or not self._mmu.is_table(physical // PAGE, L1):
            return False
        store = stores.decode(code.ljust(15, b"\0"))
        if store is None:
            return False
        name = "" if store.register is None else instructions.GENERAL[store.register]
        value = cpu.get(name) if name else store.immediate
        (old,) = struct.unpack("<Q", cpu.read_physical(physical, 8))
        try:
            self._mmu.update(cpu, physical, value)
        except Refused as reason:
            self._note(cpu, f"store to a page table: {reason}")
            return False
        if store.exchanges:
            cpu.set(name, old)
        cpu.set("rip", cpu.get("rip") + store.size)
        return True

    def interrupt(self, cpu: Cpu, vector: int) -> bool:
        self._mmu.start(cpu)
        trap = self._vcpu.traps.get(vector)
        permitted = trap is not None and (vector == _INT80 or trap.permits(kernel=self._kernel_mode))
        if vector in _SOFTWARE or permitted:
            self._bounce(cpu, vector, 0, b"")
        else:
            cpu.set("rip", cpu.get("rip") - 2)
            self._bounce(cpu, GP, vector * 8 + 2, b"")  # do_general_protection: no such gate
        self._leave(cpu)
        return True

    def _bounce(self, cpu: Cpu, vector: int, error_code: int, code: bytes) -> None:
        trap = self._vcpu.traps.get(vector)
        if vector == PF:
            error_code = error_code & ~_PAGE_FAULT_USER | _PAGE_FAULT_USER * (not self._kernel_mode)
            self._vcpu.write_info(cpu, start_info.CR2, struct.pack("<Q", cpu.get("cr2")))
        if trap is not None:
            code_pushed = error_code if vector in traps.HAS_ERROR_CODE else None
            self._deliver(cpu, trap, traps.name(vector), code_pushed)
            return
        rule, why = self._cause(cpu, vector, error_code, code)
        after = f"; before that Xen refused: {self._refusal}" if rule == REFUSED_UPDATE.id else ""
        said = traps.unhandled(vector, error_code)
        detail = f"{why}. The guest has no handler. Xen says `{said}` and ends the domain{after}"
        cpu.stop("crash", detail, rule)

    def _cause(self, cpu: Cpu, vector: int, error_code: int, code: bytes) -> tuple[str, str]:
        """The rule that an exception breaks which ends the domain, and what happened."""
        ip = cpu.get("rip")
        if vector == GP and (name := instructions.name(code)):
            return PRIVILEGED.id, f"{name} at {ip:#x}, which Xen does not emulate"
        if vector == PF and error_code & _PAGE_FAULT_WRITE:
            at = self._frame_of(cpu, cpu.get("cr2"))
            if at is not None and self._mmu.is_table(at):
                return TABLE_WRITE.id, f"write at {ip:#x} to {cpu.get('cr2'):#x}, a page table"
        rule = REFUSED_UPDATE if self._refusal else UNHANDLED
        place = f" for {cpu.get('cr2'):#x}" if vector == PF else ""
        return rule.id, f"{traps.name(vector)} at {ip:#x}{place}"

    def _frame_of(self, cpu: Cpu, address: int) -> int | None:
        physical = cpu.translate(address)
        return None if physical is None else physical // PAGE

    def _deliver(
        self, cpu: Cpu, trap: Trap, what: str, error_code: int | None, place: Place | None = None
    ) -> None:
        """create_bounce_frame: on to a handler of the guest's kernel, from where it is or from `place`."""
        place = place or Place.of(cpu)
        masked = bool(self._vcpu.read_info(cpu, start_info.UPCALL_MASK, 1)[0])
        stack = place.rsp if self._kernel_mode else self._vcpu.kernel_stack
        iopl = self._vcpu.iopl if _ASSIST_ARCHITECTURAL_IOPL in self._assists else 0
        frame = traps.frame(cpu, place, error_code, kernel=self._kernel_mode, masked=masked, iopl=iopl)
        if not self._kernel_mode:
            self._switch_mode(cpu, kernel=True)
        at = (stack & ~15) - len(frame)
        if not self._mmu.writable(cpu, at, len(frame)):
            text = f"the frame of {what} at {place.rip:#x} does not fit at {at & M64:#x}"
            cpu.stop("crash", f"{text}, where the guest cannot write. {_CRASHES}", STACK.id)
            return
        cpu.write(at, frame)
        if trap.flags & traps.TI_IF:
            self._vcpu.mask_events(cpu, True)
        traps.arrive(cpu, trap, at)

    def _iret(self, cpu: Cpu) -> None:
        try:
            frame = IretFrame.read(copies(cpu, self._mmu))
        except LookupError:
            text = f"iret with a frame at {cpu.get('rsp'):#x}, where the guest has none"
            said = "Fault while reading IRET context from guest stack"
            cpu.stop("crash", f"{text}. Xen says `{said}`", BAD_IRET.id)
            return
        if frame.cs & 3 == 3:
            if not self._mmu.user_root:
                text = "Guest switching to user mode with no user page tables"
                cpu.stop("crash", f"iret to CS {frame.cs & 0xFFFF:#x}. Xen says `{text}`", BAD_IRET.id)
                return
            self._switch_mode(cpu, kernel=False)
        if _ASSIST_ARCHITECTURAL_IOPL in self._assists:
            self._vcpu.iopl = frame.iopl
        self._vcpu.mask_events(cpu, frame.masks_events)
        for name, value in frame.registers().items():
            cpu.set(name, value)
        place = frame.place()
        fault = traps.return_fault(cpu, place)
        if fault is None:
            self._go_on(cpu, place)
        else:
            self._cannot_return(cpu, place, *fault)

    @staticmethod
    def _go_on(cpu: Cpu, place: Place) -> None:
        cpu.set("cs", place.cs)
        cpu.set("ss", place.ss)
        cpu.set("rsp", place.rsp)
        cpu.set("rflags", place.rflags)
        cpu.set("rip", place.rip)

    def _cannot_return(self, cpu: Cpu, place: Place, vector: int, error_code: int) -> None:
        """IRETQ faults: an exception of the guest's, as if it were where it wanted to go."""
        trap = self._vcpu.traps.get(vector)
        if trap is not None:
            self._deliver(cpu, trap, traps.name(vector), error_code, place)
            return
        what = traps.name(vector)
        text = f"iret to CS:RIP {place.cs:#x}:{place.rip:#x}, SS {place.ss:#x}: IRETQ raises {what}"
        said = traps.unhandled(vector, error_code)
        cpu.stop("crash", f"{text}, and the guest has no handler. Xen says `{said}`", BAD_IRET.id)

    @staticmethod
    def _code(cpu: Cpu) -> bytes:
        ip = cpu.get("rip")
        for size in (15, PAGE - ip % PAGE):
            try:
                return cpu.read(ip, size)[:15]
            except LookupError:
                continue
        return b""

    # -- CPUID

    def _forced_cpuid(self, cpu: Cpu) -> None:
        leaf, subleaf = cpu.get("eax"), cpu.get("ecx")
        native = cpu.cpuid(leaf, subleaf)
        answer = cpuid.policy(leaf, native, self.leaf(leaf))
        for register, value in zip(("rax", "rbx", "rcx", "rdx"), answer, strict=True):
            cpu.set(register, value)
        cpu.set("rip", cpu.get("rip") + len(instructions.FORCED_CPUID))

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        return native  # without the prefix the processor answers, whoever asks
