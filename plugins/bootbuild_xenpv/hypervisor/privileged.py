"""Instructions of ring 0 that Xen emulates for a guest in ring 3: xen/arch/x86/pv/emul-priv-op.c."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bootbuild.api import Cpu
from bootbuild_xenpv.hypervisor import ports
from bootbuild_xenpv.hypervisor.instructions import Instruction, decode, name
from bootbuild_xenpv.rules import PRIVILEGED

EFER, MISC_ENABLE, PLATFORM_INFO, APIC_BASE, UCODE_REV = 0xC0000080, 0x1A0, 0xCE, 0x1B, 0x8B
FS_BASE, GS_BASE, KERNEL_GS_BASE = 0xC0000100, 0xC0000101, 0xC0000102
_CLI, _STI = 0xFA, 0xFB
_BY_IOPL = frozenset((_CLI, _STI, *ports.IN, *ports.OUT, *ports.INS, *ports.OUTS))
USER = 3  #: CPL of a guest's user mode
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


class Emulation:
    """The instructions, by opcode. Each returns whether it is done; if not, the guest gets its #GP."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        self._seen: set[int] = set()  #: where such instructions were: each is told once
        port = ports.Ports()
        self._done: dict[int, Callable[[Cpu, Instruction], bool]] = {
            # IF: then it does nothing at all, for events are masked in vcpu_info
            **dict.fromkeys((_CLI, _STI), lambda _cpu, _found: True),
            0x0F06: self._clear_task_switched,
            0x0F09: lambda _cpu, _found: True,
            0x0F20: self._from_control,
            0x0F22: self._to_control,
            0x0F21: self._from_debug,
            0x0F23: lambda _cpu, found: found.reg < 8,
            0x0F30: self._write_msr,
            0x0F32: self._read_msr,
            **dict.fromkeys(ports.IN, port.read),
            **dict.fromkeys(ports.OUT, port.write),
            **dict.fromkeys(ports.INS, port.read_string),
            **dict.fromkeys(ports.OUTS, port.write_string),
        }

    def emulate(self, cpu: Cpu, code: bytes, cpl: int) -> bool:
        """Do the instruction at RIP, whose bytes are `code`, and go on behind it; False if Xen does not.

        `cpl`: as which privilege the guest's mode counts where IOPL is asked for. Raises FaultError if the
        guest gets an exception of the instruction's own.
        """
        ip = cpu.get("rip")
        found = decode(code)
        done = self._done.get(found.opcode) if found else None
        if found is None or done is None or (cpl == USER and found.opcode not in _BY_IOPL):
            emulated = False
        else:
            permitted = found.opcode not in _BY_IOPL or cpl <= self._vcpu.iopl
            try:
                emulated = permitted and done(cpu, found)
            except ports.FaultError:
                self._tell(cpu, ip, code, emulated=True)
                raise
        if emulated or cpl != USER:
            self._tell(cpu, ip, code, emulated=emulated)
        if emulated and found is not None and not ports.goes_on(cpu, found):
            cpu.set("rip", ip + found.size)
        return emulated

    def _tell(self, cpu: Cpu, ip: int, code: bytes, *, emulated: bool) -> None:
        if ip not in self._seen:
            self._seen.add(ip)
            what = "is emulated by Xen" if emulated else "is not emulated by Xen: #GP(0)"
            cpu.record("privileged", f"{name(code)} in ring 3 {what}", PRIVILEGED.id)

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
