"""What the behaviour of an environment may do to the emulated machine, and what it must answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from bootbuild.model.machine import Given, Load, RegionKind
from bootbuild.model.span import Span
from bootbuild.model.verdict import Finding

Cpuid = tuple[int, int, int, int]  #: EAX, EBX, ECX, EDX


class Cpu(Protocol):
    """The machine while it runs, as a platform sees it. Addresses are virtual unless they say physical."""

    def get(self, register: str) -> int:
        """A register by its lower-case name: "rax", "eax", "cr3", "rip", "rflags", "cs" (the selector).

        "cpl": the privilege level; "code64": 1 where 64-bit code runs (EFER.LMA and CS.L), else 0; "tsc": the
        time-stamp counter, which does not go on because somebody looks.
        """

    def general(self) -> tuple[int, ...]:
        """RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 … R15: faster than one by one."""

    def set(self, register: str, value: int) -> None:
        """Write a register. Writing "rip" is exact in `hypercall`, `syscall`,
        `exception` and `interrupt`, nowhere else.
        """

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a virtual address, through the guest's own page tables. LookupError if not mapped."""

    def write(self, address: int, data: bytes) -> None:
        """Write at a virtual address. LookupError if not mapped."""

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. LookupError where there is no memory."""

    def write_physical(self, address: int, data: bytes) -> None:
        """Write at a physical address. LookupError where there is no memory."""

    def first_change(self, load: Load) -> int | None:
        """Physical address of the first byte that is not a load's; None if all are. LookupError as above.

        What the scene has loaded so is not read where nobody has written to it.
        """

    def translate(self, address: int) -> int | None:
        """Physical address of a virtual one; None if not mapped."""

    def cpuid(self, leaf: int, subleaf: int) -> Cpuid:
        """What the bare core answers, as `Platform.cpuid` is told it."""

    def writable(self, span: Span) -> bool:
        """Whether all of a physical range is RAM, and the guest's to write."""

    def retype(self, span: Span, kind: RegionKind) -> None:
        """From the next instruction on, physical memory in whole pages is of another kind, but not MMIO."""

    def stop(self, kind: Literal["shutdown", "reset", "crash"], detail: str, rule: str = "") -> None:
        """End the run after this call: the guest asked for it, or broke `rule` and is ended for it."""

    def record(self, kind: str, detail: str, rule: str = "") -> None:
        """Note something that did not stop the run (an unknown hypercall, say) in the trace."""


class Platform:
    """How one environment behaves while a guest runs in it; made anew for every run.

    The defaults are a machine with nothing in it: no device, no hypervisor, no MSR but the CPU's own.
    Subclasses override what they have and call `super()` for the rest. `console` collects everything
    that the guest printed on any console.
    """

    def __init__(self) -> None:
        self.console = bytearray()

    def handed(self, given: Given) -> Given:
        """What the guest was given when it stands at its startup path: with what it asked for on the way."""
        return given

    def faults(self) -> Sequence[Finding]:
        """What is wrong with how the guest, standing at its startup path, has left this environment."""
        return ()

    def steady(self, address: int) -> int:
        """What stands for a linear address where runs are compared: the same in all that differ in places."""
        return address

    def cpuid(self, cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        """Answer of CPUID; `native` is what the bare core (no hypervisor bit, no RDRAND) answers."""
        return native

    def read_msr(self, cpu: Cpu, index: int) -> int | None:
        """Value of an MSR that the core itself does not have; None raises #GP, as hardware does."""
        return None

    def write_msr(self, cpu: Cpu, index: int, value: int) -> bool:
        """Take a write to an MSR that the core itself does not have; False raises #GP."""
        return False

    def port_in(self, cpu: Cpu, port: int, size: int) -> int:
        """Value read from an I/O port, `size` in bytes (1, 2, 4). An absent device reads all ones."""
        return (1 << (8 * size)) - 1

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        """A write to an I/O port; an absent device ignores it."""

    def mmio_read(self, cpu: Cpu, address: int, size: int) -> int:
        """Value read at a physical address inside an MMIO region."""
        return (1 << (8 * size)) - 1

    def mmio_write(self, cpu: Cpu, address: int, size: int, value: int) -> None:
        """A write to a physical address inside an MMIO region."""

    def hypercall(self, cpu: Cpu, instruction: Literal["vmcall", "vmmcall"]) -> bool:
        """Serve a hypercall: arguments and result in registers, RIP is advanced by the machine.

        False: this environment has none, the instruction raises #UD.
        """
        return False

    def syscall(self, cpu: Cpu) -> bool:
        """Take a SYSCALL instruction, as a hypervisor under a paravirtualized guest does.

        RIP stands at the instruction; the machine advances it unless this method wrote it. False: the
        processor does what STAR, LSTAR and FMASK say.
        """
        return False

    def exception(self, cpu: Cpu, vector: int, error_code: int) -> bool:
        """Take a fault before the guest's own handler does: emulate the instruction, or deliver it elsewhere.

        RIP stands at the instruction that faulted. False: delivered through the guest's IDT.
        """
        return False

    def interrupt(self, cpu: Cpu, vector: int) -> bool:
        """Serve `int n`, as firmware does; RIP stands after it. False: delivered through the guest's IDT."""
        return False
