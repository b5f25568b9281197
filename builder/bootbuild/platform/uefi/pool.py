"""AllocatePool: memory by bytes, taken from pages of the same type, as EDK2's pool looks to its users."""

from __future__ import annotations

from collections.abc import Callable

from bootbuild.model.span import Span, align_up
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.ovmf import PAGE
from bootbuild.platform.uefi.pages import ANY, Pages, Refused

#: bytes of MdeModulePkg/Core/Dxe/Mem/Pool.c: an address ends in 18 or 98
_HEAD, _TAIL, _STEP = 0x18, 0x10, 0x80


class Pool:
    """What was allocated, by address. `took` is told of pages that were taken from `pages`."""

    def __init__(self, pages: Pages, took: Callable[[Span, int], None]) -> None:
        self._pages = pages
        self._took = took
        self._free: dict[int, list[Span]] = {}  #: by type
        self._used: dict[int, tuple[int, Span]] = {}  #: address → type, and all that belongs to it

    def allocate(self, kind: int, size: int) -> Span:
        """`size` bytes. Raises Refused."""
        need = align_up(size + _HEAD + _TAIL, _STEP)
        rest = self._free.setdefault(kind, [])
        found = next((span for span in rest if span.size >= need), None)
        if found is None:
            found = self._pages.allocate(ANY, kind, align_up(need, PAGE) // PAGE, 0)
            self._took(found, kind)
        else:
            rest.remove(found)
        if found.size > need:
            rest.append(Span(found.start + need, found.size - need))
        self._used[found.start + _HEAD] = kind, Span(found.start, need)
        return Span(found.start + _HEAD, size)

    def free(self, address: int) -> None:
        """Raises Refused for what was not allocated here."""
        if address not in self._used:
            raise Refused(status.INVALID_PARAMETER)
        kind, span = self._used.pop(address)
        self._free[kind].insert(0, span)
