"""What a hypercall reads and writes for its guest, by virtual addresses: access_ok, copy_to_user."""

from __future__ import annotations

from typing import Any, cast

from bootbuild.api import Cpu
from bootbuild_xenpv.hypervisor.domain import XEN_END, XEN_START
from bootbuild_xenpv.hypervisor.mmu import Mmu


class _Copies:
    """A Cpu whose virtual addresses are the guest's own: nothing of Xen's, nothing that it cannot write."""

    def __init__(self, cpu: Cpu, mmu: Mmu) -> None:
        self._cpu, self._mmu = cpu, mmu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cpu, name)

    def read(self, address: int, size: int) -> bytes:
        if XEN_START - size < address < XEN_END:
            raise LookupError(f"{address:#x} is Xen's")
        return self._cpu.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        if data and not self._mmu.writable(self._cpu, address, len(data)):
            raise LookupError(f"{address:#x} is not writable")
        self._cpu.write(address, data)


def copies(cpu: Cpu, mmu: Mmu) -> Cpu:
    """The machine as a hypercall may touch it for its guest."""
    return cast(Cpu, _Copies(cpu, mmu))
