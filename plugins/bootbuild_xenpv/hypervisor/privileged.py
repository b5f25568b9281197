"""Instructions of ring 0 that Xen emulates for a guest in ring 3: xen/arch/x86/pv/emul-priv-op.c."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bootbuild.api import Cpu
from bootbuild_xenpv.rules import PRIVILEGED

GENERAL = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
FORCED_CPUID = b"\x0f\x0bxen\x0f\xa2"  #: XEN_CPUID, xen/include/public/arch-x86/xen.h

EFER, MISC_ENABLE, PLATFORM_INFO, APIC_BASE, UCODE_REV = 0xC0000080, 0x1A0, 0xCE, 0x1B, 0x8B
FS_BASE, GS_BASE, KERNEL_GS_BASE = 0xC0000100, 0xC0000101, 0xC0000102
_TIMER = 0x42  #: channel 2 of the PIT, which Xen emulates for every domain (pv_pit_handler)
GUEST_EFER = 0xD01  #: as a guest reads it: SCE, LME, LMA, NXE


class Vcpu(Protocol):
    """What the emulation needs of the rest of the hypervisor."""

    iopl: int
    task_switched: bool  #: CR0.TS as the guest has it
    kernel_gs: int

    def faulted_at(self, cpu: Cpu) -> int:
        """CR2 as the guest has it."""

    def load_root(self, cpu: Cpu, address: int) -> bool:
        """A move to CR3; False raises #GP."""


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction: the opcode (0x0F00 + for two bytes), its REX prefix, size and operands."""

    opcode: int
    size: int
    rex: int
    modrm: int
    immediate: int
    word: bool  #: operand-size prefix

    @property
    def reg(self) -> int:
        return self.modrm >> 3 & 7 | (self.rex & 4) << 1

    @property
    def rm(self) -> str:
        return GENERAL[self.modrm & 7 | (self.rex & 1) << 3]


def decode(code: bytes) -> Instruction | None:
    """The instruction at the start of `code`, as far as Xen emulates it; None if it does not."""
    at = rex = 0
    word = False
    while at < len(code) and code[at] in _PREFIXES:
        word = word or code[at] == 0x66
        at += 1
    if at < len(code) and code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    rest = code[at:].ljust(3, b"\0")
    if rest[0] == 0x0F:
        has_modrm = rest[1] in (0x01, 0x20, 0x21, 0x22, 0x23)
        return Instruction(0x0F00 | rest[1], at + 2 + has_modrm, rex, rest[2] if has_modrm else 0, 0, word)
    has_immediate = rest[0] in (0xE4, 0xE5, 0xE6, 0xE7)
    return Instruction(rest[0], at + 1 + has_immediate, rex, 0, rest[1] if has_immediate else 0, word)


NAMES = {
    0x0F06: "CLTS", 0x0F07: "SYSRET", 0x0F08: "INVD", 0x0F09: "WBINVD", 0x0F20: "MOV from CR",
    0x0F21: "MOV from DR", 0x0F22: "MOV to CR", 0x0F23: "MOV to DR", 0x0F30: "WRMSR", 0x0F32: "RDMSR",
    0x0F35: "SYSEXIT", 0xCF: "IRET", 0xF4: "HLT", 0xFA: "CLI", 0xFB: "STI",
    **dict.fromkeys((0xE4, 0xE5, 0xEC, 0xED), "IN"), **dict.fromkeys((0xE6, 0xE7, 0xEE, 0xEF), "OUT"),
    **dict.fromkeys((0x6C, 0x6D), "INS"), **dict.fromkeys((0x6E, 0x6F), "OUTS"),
}  # fmt: skip
_GROUP7 = {
    0xC1: "VMCALL", 0xD1: "XSETBV", 0xD9: "VMMCALL", 0xF8: "SWAPGS", 0xF9: "RDTSCP",
}  # fmt: skip
_GROUP7_MEMORY = ("SGDT", "SIDT", "LGDT", "LIDT", "SMSW", "", "LMSW", "INVLPG")
_GROUP6 = ("SLDT", "STR", "LLDT", "LTR", "VERR", "VERW", "", "")


def name(code: bytes) -> str:
    """How the manuals call the instruction of ring 0 at the start of `code`; "" for any other."""
    found = decode(code)
    if found is None:
        return ""
    if found.opcode == 0x0F01:
        if found.modrm in _GROUP7:
            return _GROUP7[found.modrm]
        return _GROUP7_MEMORY[found.modrm >> 3 & 7]
    if found.opcode == 0x0F00:
        return _GROUP6[code[found.size] >> 3 & 7] if len(code) > found.size else ""
    return NAMES.get(found.opcode, "")


class Emulation:
    """The instructions, by opcode. Each returns whether it is done; if not, the guest gets its #GP."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._seen: set[int] = set()  #: where such instructions were: each is told once
        self._timer = 0  #: what channel 2 of the PIT counts
        self._done: dict[int, Callable[[Cpu, Instruction], bool]] = {
            0xFA: self._interrupt_flag,
            0xFB: self._interrupt_flag,
            0x0F06: self._clear_task_switched,
            0x0F09: lambda _cpu, _found: True,
            0x0F20: self._from_control,
            0x0F22: self._to_control,
            0x0F21: self._from_debug,
            0x0F23: lambda _cpu, found: found.reg < 8,
            0x0F30: self._write_msr,
            0x0F32: self._read_msr,
            **dict.fromkeys((0xE4, 0xE5, 0xEC, 0xED), self._port_in),
            **dict.fromkeys((0xE6, 0xE7, 0xEE, 0xEF), self._port_out),
        }

    def emulate(self, cpu: Cpu, code: bytes) -> bool:
        """Do the instruction at RIP, whose bytes are `code`, and go on behind it; False if Xen does not."""
        ip = cpu.get("rip")
        found = decode(code)
        done = self._done.get(found.opcode) if found else None
        emulated = found is not None and done is not None and done(cpu, found)
        if ip not in self._seen:
            self._seen.add(ip)
            what = "is emulated by Xen" if emulated else "is not emulated by Xen: #GP(0)"
            cpu.record("privileged", f"{name(code)} in ring 3 {what}", PRIVILEGED.id)
        if emulated and found is not None:
            cpu.set("rip", ip + found.size)
        return emulated

    def _interrupt_flag(self, _cpu: Cpu, _found: Instruction) -> bool:
        return self._vcpu.iopl >= 1  # then it does nothing at all: events are masked in vcpu_info

    def _clear_task_switched(self, _cpu: Cpu, _found: Instruction) -> bool:
        self._vcpu.task_switched = False
        return True

    def _from_control(self, cpu: Cpu, found: Instruction) -> bool:
        values: dict[int, Callable[[], int]] = {
            0: lambda: cpu.get("cr0") & ~8 | 8 * self._vcpu.task_switched,
            2: lambda: self._vcpu.faulted_at(cpu),
            3: lambda: cpu.get("cr3"),
            4: lambda: cpu.get("cr4"),
        }
        if found.reg not in values:
            return False
        cpu.set(found.rm, values[found.reg]())
        return True

    def _to_control(self, cpu: Cpu, found: Instruction) -> bool:
        value = cpu.get(found.rm)
        if found.reg == 0:
            if (value ^ cpu.get("cr0")) & ~8:
                return False  # "Attempt to change unmodifiable CR0 flags"
            self._vcpu.task_switched = bool(value & 8)
            return True
        if found.reg == 3:
            return self._vcpu.load_root(cpu, value)
        return found.reg in (2, 4)  # pv_make_cr4 keeps what is Xen's

    @staticmethod
    def _from_debug(cpu: Cpu, found: Instruction) -> bool:
        if found.reg > 7:
            return False
        cpu.set(found.rm, {6: 0xFFFF0FF0, 7: 0x400}.get(found.reg, 0))
        return True

    def _read_msr(self, cpu: Cpu, _found: Instruction) -> bool:
        values: dict[int, Callable[[], int]] = {
            FS_BASE: lambda: cpu.get("fs_base"),
            GS_BASE: lambda: cpu.get("gs_base"),
            KERNEL_GS_BASE: lambda: self._vcpu.kernel_gs,
            EFER: lambda: GUEST_EFER,
            MISC_ENABLE: lambda: 0x801,  # fast strings; no branch trace
            APIC_BASE: lambda: 0xFEE00900,
            PLATFORM_INFO: lambda: 0,
            UCODE_REV: lambda: 0,
        }
        index = cpu.get("ecx")
        if index not in values:
            return False
        value = values[index]()
        cpu.set("rax", value & 0xFFFFFFFF)
        cpu.set("rdx", value >> 32)
        return True

    def _write_msr(self, cpu: Cpu, _found: Instruction) -> bool:
        index, value = cpu.get("ecx"), cpu.get("eax") | cpu.get("edx") << 32
        if (value >> 47) not in (0, 0x1FFFF):
            return False
        if index == FS_BASE:
            cpu.set("fs_base", value)
        elif index == GS_BASE:
            cpu.set("gs_base", value)
        elif index == KERNEL_GS_BASE:
            self._vcpu.kernel_gs = value
        else:
            return index == UCODE_REV  # ignored
        return True

    def _port_in(self, cpu: Cpu, found: Instruction) -> bool:
        if self._vcpu.iopl < 1:
            return False
        size = 1 if not found.opcode & 1 else 2 if found.word else 4
        mask = value = (1 << 8 * size) - 1  # nothing answers at any port
        port = found.immediate if found.opcode < 0xE8 else cpu.get("rdx") & 0xFFFF
        if port == _TIMER:
            self._timer = value = self._timer - 1 & 0xFF  # time goes by with each reading
        keep = cpu.get("rax") & ~mask if size < 4 else 0
        cpu.set("rax", keep | value)
        return True

    def _port_out(self, _cpu: Cpu, _found: Instruction) -> bool:
        return self._vcpu.iopl >= 1
