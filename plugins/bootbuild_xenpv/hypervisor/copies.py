"""What a hypercall reads and writes for its guest, by virtual addresses: access_ok, copy_to_user."""

from __future__ import annotations

from typing import Any, cast

from bootbuild.api import Cpu
from bootbuild_xenpv.hypervisor.domain import is_guests
from bootbuild_xenpv.hypervisor.hypercall import BadAddressError
from bootbuild_xenpv.hypervisor.mmu import Mmu


class _Copies:
    """A Cpu whose virtual addresses are the guest's own: nothing of Xen's, nothing that it cannot write.

    `read` and `write` raise BadAddressError; of no bytes they say whether the address could be a guest's.
    """

    def __init__(self, cpu: Cpu, mmu: Mmu) -> None:
        self._cpu, self._mmu = cpu, mmu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cpu, name)

    def read(self, address: int, size: int) -> bytes:
        if not is_guests(address):
            raise BadAddressError(f"{address:#x} is Xen's")
        try:
            return self._cpu.read(address, size)
        except LookupError as reason:
            raise BadAddressError(f"{address:#x} is not mapped") from reason

    def write(self, address: int, data: bytes) -> None:
        if data and not self._mmu.writable(self._cpu, address, len(data)):
            raise BadAddressError(f"{address:#x} is not writable")
        try:
            self._cpu.write(address, data)
        except LookupError as reason:
            raise BadAddressError(f"{address:#x} is no memory") from reason


def copies(cpu: Cpu, mmu: Mmu) -> Cpu:
    """The machine as a hypercall may touch it for its guest."""
    return cast(Cpu, _Copies(cpu, mmu))
