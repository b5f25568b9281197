"""What a hypercall is to those who serve it, and the ways in which one ends without an answer of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bootbuild.api import Cpu
from bootbuild.platform.xen import EINVAL

ENOENT, ESRCH, ENXIO, EBUSY = 2, 3, 6, 16  # xen/include/public/errno.h

# xen/include/public/xen.h, __HYPERVISOR_*
MULTICALL, GRANT_TABLE_OP, IRET, MMUEXT_OP = 13, 20, 23, 26

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


class UnmodelledError(Exception):
    """The call is one of Xen's, and is not made here: it is recorded with `arguments` and answers -ENOSYS."""

    def __init__(self, arguments: Sequence[int]) -> None:
        super().__init__(arguments)
        self.arguments = arguments


def done(_cpu: Cpu, _arguments: Sequence[int]) -> int:
    """A call that changes nothing that a guest could see here."""
    return 0
