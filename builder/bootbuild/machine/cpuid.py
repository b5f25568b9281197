"""What the bare core answers to CPUID: the engine's own words, less what this machine does not keep."""

from __future__ import annotations

import functools

from bootbuild.machine.binding import Uc, emulate, uc, x86

# CPUID bits that this machine does not keep, by leaf: (EAX, EBX, ECX, EDX) to clear.
_MONITOR, _HYPERVISOR, _RDRAND = 1 << 3, 1 << 31, 1 << 30
_RDSEED, _LA57 = 1 << 18, 1 << 16
OSXSAVE = 1 << 27  #: of CPUID.1:ECX, the guest's own CR4.OSXSAVE
_AVX_STATE, _AVX_SIZE = 1 << 2, 0x100
_BMI2 = 1 << 8  #: its SHLX needs no CR4.OSFXSR (SDM 2, exceptions of type 13); the engine wants that
_HIDDEN = {
    1: (0, 0, _MONITOR | _HYPERVISOR | _RDRAND | OSXSAVE, 0),
    7: (0, _RDSEED | _BMI2, _LA57, 0),
    0x0D: (_AVX_STATE, 0, _AVX_SIZE, 0),
}
_PDPE1GB = 1 << 26  #: the engine has 1 GiB pages, whatever its model says


@functools.cache
def native_cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """What the bare core answers: no hypervisor, no random numbers, nothing that it does not execute.

    OSXSAVE is 0, as CR4 is at reset.
    """
    if leaf == 0x0D and subleaf > 1:
        return 0, 0, 0, 0  # no state but that of the x87 and SSE
    engine = Uc(uc.UC_ARCH_X86, uc.UC_MODE_64, x86.UC_CPU_X86_HASWELL)
    engine.mem_map(0, 0x1000)
    engine.mem_write(0, b"\x0f\xa2\xf4")  # cpuid; hlt
    engine.reg_write(x86.UC_X86_REG_RAX, leaf)
    engine.reg_write(x86.UC_X86_REG_RCX, subleaf)
    emulate(engine, 0, until=0x1000)
    numbers = (
        x86.UC_X86_REG_RAX,
        x86.UC_X86_REG_RBX,
        x86.UC_X86_REG_RCX,
        x86.UC_X86_REG_RDX,
    )
    answer = [engine.reg_read(number) & 0xFFFFFFFF for number in numbers]
    hidden = _HIDDEN.get(leaf, (0, 0, 0, 0))
    a, b, c, d = (value & ~clear for value, clear in zip(answer, hidden, strict=True))
    if leaf == 0x80000001:
        d |= _PDPE1GB
    return a, b, c, d
