"""What a hypercall is to those who serve it, and the ways in which one ends without an answer of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import DOMID_SELF, EINVAL, EPERM

# xen/include/public/errno.h
ENOENT, ESRCH, ENXIO, EACCES, EBUSY, EEXIST, ENODEV, ENOSPC, EOPNOTSUPP = 2, 3, 6, 13, 16, 17, 19, 28, 95

# xen/include/public/xen.h, __HYPERVISOR_*
MULTICALL, GRANT_TABLE_OP, IRET, MMUEXT_OP = 13, 20, 23, 26

STEPS = 512
"""Of a long hypercall, before the guest makes it again for the rest; Xen has it do so when others wait."""

Call = Callable[[Cpu, Sequence[int]], int]
"""Serves a call: the machine as `copies` has it, six arguments; the answer, signed."""

Calls = Mapping[int, tuple[Call, int]]
"""By their numbers, what serves them and how many arguments they have (xen/include/hypercall-defs.c)."""

Note = Callable[[Cpu, str], None]
"""Records that something was refused."""


class Refused(Exception):
    """Xen does not do what was asked for; the text says why, and the guest is told -`error`."""

    def __init__(self, text: str, error: int = EINVAL) -> None:
        super().__init__(text)
        self.error = error


class BadAddressError(LookupError):
    """An address that the guest gave is not its own, or not mapped: -EFAULT."""


class UnmodelledError(Exception):
    """Xen does not know the call, or it is not made here: recorded with `arguments`, it answers -ENOSYS."""

    def __init__(self, arguments: Sequence[int]) -> None:
        super().__init__(arguments)
        self.arguments = tuple(arguments)


class PreemptedError(Exception):
    """A part is done; the guest makes the call again with `arguments` (hypercall_create_continuation)."""

    def __init__(self, arguments: Sequence[int]) -> None:
        super().__init__(arguments)
        self.arguments = tuple(arguments)


def not_itself(own: int, domid: int) -> int:
    """0 if a domain names itself, by DOMID_SELF or by its number; else the error for naming another one."""
    if domid in (DOMID_SELF, own):
        return 0
    return -ESRCH if domid else -EPERM  # the control domain there always is, but it is nobody's to touch
