"""Where GRUB puts what it loads: grub-core/lib/relocator.c, in the memory that one firmware leaves to it."""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Span, align_up, holes

_TOP = 1 << 32


class Relocator:
    """Chunks of physical memory: some where the kernel asks for them, the others at the lowest fit.

    `heap`: GRUB's own memory, in ascending order, where a chunk lies at once. `offered`: the RAM of the
    memory map, to which a chunk that fits into no heap is moved when the kernel is started.
    """

    def __init__(self, heap: Sequence[Span], offered: Sequence[Span]) -> None:
        self._heap = heap
        self._offered = offered
        self.chunks: list[Span] = []

    def claim(self, span: Span) -> None:
        """grub_relocator_alloc_chunk_addr: a chunk at its own address."""
        self.chunks.append(span)

    def place(self, size: int, align: int, least: int = 0, most: int = _TOP) -> int | None:
        """grub_relocator_alloc_chunk_align: the address of a new chunk; None when there is no room."""
        for within in self._heap:
            for free in holes(within, self.chunks):
                at = align_up(max(free.start, least), align)
                if at + size <= min(free.end, most):
                    return self._taken(at, size)
        for within in self._offered:
            at = align_up(max(within.start, least), align)
            if at + size > min(within.end, most):
                continue
            while hit := next((c for c in self.chunks if c.overlaps(Span(at, size))), None):
                at = align_up(hit.end, align)
            return self._taken(at, size)
        return None

    def _taken(self, at: int, size: int) -> int:
        self.chunks.append(Span(at, size))
        return at
