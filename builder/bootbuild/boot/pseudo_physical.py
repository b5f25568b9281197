"""The machine as a paravirtualized guest knows it: physical addresses are those of its own frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bootbuild.model.machine import Load

if TYPE_CHECKING:
    from bootbuild.machine import Machine

_PAGE = 4096
_M64 = (1 << 64) - 1


class PseudoPhysical:
    """A view whose physical addresses count the guest's frames, wherever in the machine they lie.

    `frames`: the machine frame of each of them; `start`: the address that the image has for the first, from
    which they count on modulo 2^64.
    """

    def __init__(self, machine: Machine, frames: Sequence[int], start: int = 0) -> None:
        self._machine = machine
        self._start = start
        self._frames = frames
        self._own = {machine: own for own, machine in enumerate(frames)}

    def get(self, register: str) -> int:
        """A register by its lower-case name."""
        return self._machine.get(register)

    @property
    def code_width(self) -> int:
        """16, 32 or 64: of the code that is executed."""
        return self._machine.code_width

    def read(self, address: int, size: int) -> bytes:
        """Bytes through the page tables now in force. LookupError if not mapped."""
        return self._machine.read(address, size)

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes of the guest's own memory. LookupError where it has none."""
        parts = []
        while size > 0:
            frame, offset = divmod(address - self._start & _M64, _PAGE)
            if not 0 <= frame < len(self._frames):
                raise LookupError(f"the guest has no memory at physical address {address:#x}")
            part = min(size, _PAGE - offset)
            parts.append(self._machine.read_physical(self._frames[frame] * _PAGE + offset, part))
            address, size = address + part, size - part
        return b"".join(parts)

    def translate(self, address: int) -> int | None:
        """The guest's physical address of a virtual one; None if that leads to no frame of its own."""
        return self._own_address(self._machine.translate(address))

    def first_change(self, load: Load) -> int | None:
        """The first byte, at the guest's own address, that is not what `load` put there any more."""
        return self._own_address(self._machine.first_change(load))

    def _own_address(self, machine: int | None) -> int | None:
        own = None if machine is None else self._own.get(machine // _PAGE)
        return None if machine is None or own is None else self._start + own * _PAGE + machine % _PAGE & _M64
