"""The trap table of a PV guest: exceptions as frames on its own stack, and the way back by iret.

xen/arch/x86/x86_64/entry.S (create_bounce_frame), xen/arch/x86/pv/iret.c, xen/include/public/arch-x86/xen.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bootbuild.api import Cpu

HAS_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
NOT_PRESENT, STACK_FAULT, GP, PAGE_FAULT = 11, 12, 13, 14
KERNEL_CS, KERNEL_SS = 0xE033, 0xE02B  #: FLAT_KERNEL_CS64, FLAT_KERNEL_SS64
USER_CS32 = 0xE023  #: FLAT_USER_CS32
_IF, _IOPL_SHIFT, _IOPL, _VM = 1 << 9, 12, 3 << 12, 1 << 17
_CLEARED = 1 << 8 | 1 << 14 | 1 << 16 | _VM | 1 << 18  #: TF, NT, RF, VM, AC
TI_IF = 1 << 2  #: of trap_info.flags: events are masked when the handler is entered
VGCF_IN_SYSCALL = 1 << 8
_TRAP_INFO = struct.Struct("<BBH4xQ")
ENTRY_SIZE = _TRAP_INFO.size  #: bytes
_IRET = struct.Struct("<9Q")


_NAMES = (  # vector_name, xen/arch/x86/traps.c
    "#DE #DB NMI #BP #OF #BR #UD #NM #DF CSO #TS #NP #SS #GP #PF SPV #MF #AC #MC #XM #VE #CP".split()
)
_NO_ERROR_CODE = 0xFFFFFFFF  #: X86_EVENT_NO_EC


def name(vector: int) -> str:
    """How Xen calls an exception."""
    return _NAMES[vector] if vector < len(_NAMES) else "???"


def unhandled(vector: int, error_code: int) -> str:
    """What Xen says when a guest has no handler (pv_inject_event, xen/arch/x86/pv/traps.c)."""
    code = error_code if vector in HAS_ERROR_CODE else _NO_ERROR_CODE
    return f"Unhandled: vec {vector}, {name(vector)}[{code:04x}]"


def is_canonical(address: int) -> bool:
    """Whether a processor takes 64 bits for an address."""
    return address >> 47 in (0, 0x1FFFF)


def loads(cpu: Cpu, selector: int) -> bool:
    """Whether DS, ES, FS or GS takes a selector in ring 3: of data, or of code that can be read."""
    access = _access(cpu, selector)
    return access is not None and access & 0xF0 == 0xF0 and access & 0xA != 8


def _access(cpu: Cpu, selector: int) -> int | None:
    """Type, S, DPL and P of a descriptor in the GDT; None if there is no such descriptor."""
    at = None if selector & 4 else cpu.translate(cpu.get("gdtr") + (selector & 0xFFF8))
    return None if at is None else cpu.read_physical(at + 5, 1)[0]


def _segment_fault(cpu: Cpu, selector: int, *, code: bool) -> tuple[int, int] | None:
    """Vector and error code of the exception that loading CS, or else SS, raises in ring 3."""
    if not selector & ~3:
        return GP, 0
    access = _access(cpu, selector)
    if access is None or access & 0x78 != (0x78 if code else 0x70) or not (code or access & 2):
        return GP, selector & ~3  # S, DPL 3, code or else data, and that writable
    return None if access & 0x80 else (NOT_PRESENT if code else STACK_FAULT, selector & ~3)


def return_fault(cpu: Cpu, place: Place) -> tuple[int, int] | None:
    """Vector and error code of the exception that IRETQ to ring 3 raises there; None if it goes."""
    fault = _segment_fault(cpu, place.cs, code=True) or _segment_fault(cpu, place.ss, code=False)
    return fault or (None if is_canonical(place.rip) else (GP, 0))


@dataclass(frozen=True)
class Trap:
    """One entry of the table: `struct trap_info`."""

    flags: int
    cs: int
    address: int

    def permits(self, *, kernel: bool) -> bool:
        """Whether INT leads there: permit_softint, where a guest's kernel counts as ring 1."""
        return self.flags & 3 >= (1 if kernel else 3)


def read_entry(cpu: Cpu, address: int) -> tuple[int, Trap]:
    """A vector and what is to be its trap, from a virtual address. LookupError if it is not mapped."""
    vector, flags, cs, handler = _TRAP_INFO.unpack(cpu.read(address, ENTRY_SIZE))
    return vector, Trap(flags, cs | 3, handler)


@dataclass(frozen=True)
class Place:
    """Where a guest is interrupted, or goes on."""

    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int

    @classmethod
    def of(cls, cpu: Cpu) -> Place:
        """Where it is."""
        return cls(*(cpu.get(name) for name in ("rip", "cs", "rflags", "rsp", "ss")))


def frame(cpu: Cpu, place: Place, code: int | None, *, kernel: bool, masked: bool, iopl: int) -> bytes:
    """What is pushed: rcx, r11, the error code if there is one, rip, cs, rflags with that IOPL, rsp, ss.

    CS has RPL 0 if the guest's kernel was interrupted. Its upper half says whether events were masked, and
    so does the IF that is pushed.
    """
    selector = place.cs & ~3 if kernel else place.cs
    flags = place.rflags & ~(_IF | _IOPL) | (0 if masked else _IF) | iopl << _IOPL_SHIFT
    words = [cpu.get("rcx"), cpu.get("r11")]
    words += [] if code is None else [code]
    words += [place.rip, selector | masked << 32, flags, place.rsp, place.ss]
    return struct.pack(f"<{len(words)}Q", *words)


def arrive(cpu: Cpu, trap: Trap, stack: int) -> None:
    """Put the guest at its handler, with its frame at `stack`; what CS the handler has is Xen's to say."""
    cpu.set("rsp", stack)
    cpu.set("ss", KERNEL_SS)
    cpu.set("cs", KERNEL_CS)
    cpu.set("rflags", cpu.get("rflags") & ~_CLEARED)
    cpu.set("rip", trap.address)


@dataclass(frozen=True)
class IretFrame:
    """`struct iret_context`."""

    rax: int
    r11: int
    rcx: int
    flags: int
    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int

    @classmethod
    def read(cls, cpu: Cpu) -> IretFrame:
        """From the stack, by a Cpu of `copies`. LookupError if the guest has nothing there."""
        return cls(*_IRET.unpack(cpu.read(cpu.get("rsp"), _IRET.size)))

    def place(self) -> Place:
        """Where it says to go on, in ring 3 whatever it says; after VGCF_in_syscall as SYSRET does it."""
        rflags = self.rflags & ~(_IOPL | _VM) | _IF | 2
        if self.flags & VGCF_IN_SYSCALL and is_canonical(self.rip):
            cs = USER_CS32 if self.cs & 0xFFFF == USER_CS32 else KERNEL_CS
            return Place(self.rip, cs, rflags, self.rsp, KERNEL_SS)
        return Place(self.rip, self.cs & 0xFFFF | 3, rflags, self.rsp, self.ss & 0xFFFF | 3)

    def registers(self) -> dict[str, int]:
        """The general registers that it brings back."""
        rest = {} if self.flags & VGCF_IN_SYSCALL else {"r11": self.r11, "rcx": self.rcx}
        return {"rax": self.rax, **rest}

    @property
    def iopl(self) -> int:
        return (self.rflags & _IOPL) >> _IOPL_SHIFT

    @property
    def masks_events(self) -> bool:
        return not self.rflags & _IF
