"""The machine as a paravirtualized guest knows it: physical addresses are those of its own frames."""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api.guest import GuestView

_PAGE = 4096


class PseudoPhysical:
    """A view whose physical addresses count the guest's frames, wherever in the machine they lie.

    `frames`: the machine frame of each of them.
    """

    def __init__(self, view: GuestView, frames: Sequence[int]) -> None:
        self._view = view
        self._frames = frames
        self._own = {machine: own for own, machine in enumerate(frames)}

    def get(self, register: str) -> int:
        """A register by its lower-case name."""
        return self._view.get(register)

    def read(self, address: int, size: int) -> bytes:
        """Bytes through the page tables now in force. LookupError if not mapped."""
        return self._view.read(address, size)

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes of the guest's own memory. LookupError where it has none."""
        parts = []
        while size > 0:
            frame, offset = divmod(address, _PAGE)
            if not 0 <= frame < len(self._frames):
                raise LookupError(f"the guest has no memory at physical address {address:#x}")
            part = min(size, _PAGE - offset)
            parts.append(self._view.read_physical(self._frames[frame] * _PAGE + offset, part))
            address, size = address + part, size - part
        return b"".join(parts)

    def translate(self, address: int) -> int | None:
        """The guest's physical address of a virtual one; None if that leads to no frame of its own."""
        machine = self._view.translate(address)
        own = None if machine is None else self._own.get(machine // _PAGE)
        return None if machine is None or own is None else own * _PAGE + machine % _PAGE
