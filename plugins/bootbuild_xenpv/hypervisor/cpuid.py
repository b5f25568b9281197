"""What CPUID says to a PV domain that asks Xen for it, by the prefix of a UD2 (pv_cpuid)."""

from __future__ import annotations

from bootbuild.platform.xen import CPUID_BASE

Cpuid = tuple[int, int, int, int]  #: EAX, EBX, ECX, EDX
# CPUID that a PV domain is not shown: what it cannot have in ring 3 (xen/tools/gen-cpuid.py, PV policies)
_HIDDEN = {
    1: (
        1 << 3 | 1 << 21 | 1 << 24 | 1 << 26 | 1 << 27,
        1 << 3 | 1 << 7 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 14,
    ),
    0x80000001: (0, 1 << 3 | 1 << 26 | 1 << 27),
}


def policy(leaf: int, native: Cpuid, xens: Cpuid | None) -> Cpuid:
    """The answer, of what the bare core answers and of what any guest is told in a leaf of Xen's."""
    if xens is not None:
        if leaf == CPUID_BASE + 2:  # XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD
            return (*xens[:2], 1, 0)
        return xens if leaf != CPUID_BASE + 4 else (0, 0, 0, 0)
    if leaf in (7, 0xD):
        return (0, 0, 0, 0)
    a, b, c, d = native
    hidden_c, hidden_d = _HIDDEN.get(leaf, (0, 0))
    if leaf == 1:
        c |= 1 << 31
    return (a, b, c & ~hidden_c, d & ~hidden_d)
