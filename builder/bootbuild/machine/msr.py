"""Model-specific registers: those of the core itself, and #GP(0) for those that nobody has.

The engine reads unknown ones as zero, drops writes and checks no value; so RDMSR and WRMSR are done
here instead. Source: Intel SDM volume 4, table 2-2; volume 3A, 3.3.7.1 (canonical addresses), 4.1.1 (EFER),
11.4.4 (APIC_BASE), 12.11.2 (MTRRs), 12.12.2 (PAT).
"""

from __future__ import annotations

from bootbuild.machine.board import Board
from bootbuild.machine.delivery import Delivery
from bootbuild.machine.engine import MSR_EFER
from bootbuild.machine.paging import ADDRESS_WIDTH, CR0_PG
from bootbuild.machine.rules import BAD_EFER, BAD_MSR_VALUE, NON_CANONICAL, UNKNOWN_MSR
from bootbuild.model.rule import Rule

TSC, TSC_AUX = 0x10, 0xC0000103
TSC_STEP = 1000  #: ticks that pass with each reading, so that a wait on the counter ends soon

_EFER_LME = 1 << 8
_EFER_DEFINED = 0xD01  #: SCE, LME, LMA, NXE: what CPUID of this core reports

_CANONICAL = frozenset((0x175, 0x176, 0xC0000082, 0xC0000083, 0xC0000100, 0xC0000101, 0xC0000102))
_ENGINE = _CANONICAL | {0x174, 0x277, 0xC0000081, 0xC0000084}
"""SYSENTER_CS/ESP/EIP, PAT, STAR, LSTAR, CSTAR, FMASK, FS, GS and KERNEL_GS base: the core acts on them."""

_WRITE_BACK = 0x0606_0606_0606_0606
_FIXED_RANGES = (0x250, 0x258, 0x259, *range(0x268, 0x270))
_VARIABLE_RANGES = range(0x200, 0x210)  #: PHYSBASE and PHYSMASK in turn
_APIC_BASE, _BIOS_SIGN, _MCG_STATUS, _PAT, _DEF_TYPE = 0x1B, 0x8B, 0x17A, 0x277, 0x2FF
_MEMORY_TYPES = frozenset((0, 1, 4, 5, 6))  #: UC, WC, WT, WP, WB; the PAT has UC- (7) too
_BEYOND = -1 << ADDRESS_WIDTH
_RESERVED = {
    _APIC_BASE: _BEYOND | 0x6FF,  # all but BSP and EN: CPUID reports no x2APIC
    _MCG_STATUS: ~7,
    _DEF_TYPE: ~0xCFF,
    TSC_AUX: -1 << 32,
    **dict.fromkeys(_VARIABLE_RANGES[::2], _BEYOND | 0xF00),
    **dict.fromkeys(_VARIABLE_RANGES[1::2], _BEYOND | 0x7FF),
}
_TYPED = {  #: how many bytes, from the lowest on, hold a memory type
    _PAT: 8,
    _DEF_TYPE: 1,
    **dict.fromkeys(_VARIABLE_RANGES[::2], 1),
    **dict.fromkeys(_FIXED_RANGES, 8),
}


def _at_reset() -> dict[int, int]:
    """Registers that only hold a value, as firmware leaves them: APIC on, everything write-back."""
    values = {
        0x17: 0,  # PLATFORM_ID
        _APIC_BASE: 0xFEE00900,  # enabled, bootstrap processor
        _BIOS_SIGN: 0,
        0xFE: 0x508,  # MTRRCAP: 8 variable ranges, fixed ranges, write-combining
        0x179: 0,  # MCG_CAP: no banks
        _MCG_STATUS: 0,
        0x1A0: 1,  # MISC_ENABLE: fast strings
        _DEF_TYPE: 0xC06,  # MTRRs enabled, fixed enabled, write-back
        TSC_AUX: 0,
    }
    values.update(dict.fromkeys(_VARIABLE_RANGES, 0))
    values.update(dict.fromkeys(_FIXED_RANGES, _WRITE_BACK))
    return values


_READ_ONLY = frozenset((0x17, 0xFE, 0x179))


def canonical(address: int) -> bool:
    """Whether bits 63:47 are all equal."""
    return (address >> 47) in (0, 0x1FFFF)


def invalid(index: int, value: int) -> str:
    """What makes a value one that WRMSR faults on; empty if nothing does."""
    reserved = value & _RESERVED.get(index, 0)
    if reserved:
        return f"bits {reserved:#x} are reserved"
    for kind in value.to_bytes(8, "little")[: _TYPED.get(index, 0)]:
        if kind not in _MEMORY_TYPES and not (index == _PAT and kind == 7):
            return f"there is no memory type {kind:#x}"
    return ""


class Msrs:
    """RDMSR, WRMSR and the time-stamp counter of one machine."""

    def __init__(self, board: Board, delivery: Delivery) -> None:
        self._board = board
        self._delivery = delivery
        self._values = _at_reset()
        self._tsc_offset = 0

    def tsc(self) -> int:
        """A reading of the time-stamp counter: the same in every run of the same scene."""
        self._tsc_offset += TSC_STEP
        self._board.calls += 1  # time went on: the machine is not what it was
        return (self._board.instructions + self._tsc_offset) & 0xFFFFFFFFFFFFFFFF

    @property
    def now(self) -> int:
        """What the TSC was when it was last read, and the instructions since."""
        return (self._board.instructions + self._tsc_offset) & 0xFFFFFFFFFFFFFFFF

    def rdtsc(self, both: bool) -> None:
        """RDTSC, or RDTSCP if `both`."""
        self._board.out_of_time()
        core, value = self._board.core, self.tsc()
        core.set("rax", value & 0xFFFFFFFF)
        core.set("rdx", value >> 32)
        if both:
            core.set("rcx", self._values[TSC_AUX] & 0xFFFFFFFF)

    def rdmsr(self) -> bool:
        """Do RDMSR; False if #GP(0) was delivered instead."""
        core, index = self._board.core, self._board.core.get("ecx")
        value = self._read(index)
        if value is None:
            return self._refuse(UNKNOWN_MSR, f"RDMSR of {index:#x}, which does not exist")
        core.set("rax", value & 0xFFFFFFFF)
        core.set("rdx", value >> 32 & 0xFFFFFFFF)
        return True

    def wrmsr(self) -> bool:
        """Do WRMSR; False if #GP(0) was delivered instead."""
        core, index = self._board.core, self._board.core.get("ecx")
        value = core.get("eax") | core.get("edx") << 32
        return self._write(index, value)

    def _read(self, index: int) -> int | None:
        if index == MSR_EFER or index in _ENGINE:
            return self._board.core.msr_read(index)
        if index == TSC:
            return self.tsc()
        if index in self._values:
            return self._values[index]
        self._board.calls += 1
        return self._board.platform.read_msr(self._board.cpu, index)

    def _write(self, index: int, value: int) -> bool:
        board = self._board
        if index == MSR_EFER:
            return self._write_efer(value)
        if index in _CANONICAL and not canonical(value):
            return self._refuse(NON_CANONICAL, f"WRMSR of {value:#x} to {index:#x}: not a canonical address")
        wrong = invalid(index, value)
        if wrong:
            return self._refuse(BAD_MSR_VALUE, f"WRMSR of {value:#x} to {index:#x}: {wrong}")
        if index in _ENGINE:
            board.core.msr_write(index, value)
        elif index == TSC:
            self._tsc_offset = value - board.instructions
        elif index in _READ_ONLY:
            return self._refuse(UNKNOWN_MSR, f"WRMSR to {index:#x}, which is read-only")
        elif index == _BIOS_SIGN:  # only a microcode update gives it a value
            self._values[index] = 0
        elif index in self._values:
            board.calls += self._values[index] != value  # a proof of repetition does not see it
            self._values[index] = value
        else:
            board.calls += 1
            if not board.platform.write_msr(board.cpu, index, value):
                return self._refuse(UNKNOWN_MSR, f"WRMSR of {value:#x} to {index:#x}, which does not exist")
        return True

    def _write_efer(self, value: int) -> bool:
        core = self._board.core
        old = core.get("efer")
        if value & ~_EFER_DEFINED:
            return self._refuse(BAD_EFER, f"WRMSR of {value:#x} to EFER: reserved bits")
        if core.get("cr0") & CR0_PG and (value ^ old) & _EFER_LME:
            return self._refuse(BAD_EFER, f"WRMSR of {value:#x} to EFER: LME changed while paging is on")
        core.msr_write(MSR_EFER, value)  # which leaves LMA as it is
        return True

    def _refuse(self, rule: Rule, detail: str) -> bool:
        self._delivery.violation(rule, detail)
        return False
