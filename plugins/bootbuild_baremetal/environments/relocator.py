"""Where GRUB puts what it loads: grub-core/lib/relocator.c, in the memory that one firmware leaves to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bootbuild.api import Span, align_up, holes

_TOP, _LOW = 1 << 32, 1 << 20


class Relocator:
    """Chunks of physical memory: some where the kernel asks for them, the others at the lowest fit.

    `heap`: memory that GRUB has or gets, in ascending order, where a chunk lies at once. `offered`: the RAM
    of the memory map, to which a chunk that fits into no heap is moved when the kernel is started. `grain`:
    bytes of which memory is given out in multiples. `block`: GRUB_MM_ALIGN, in multiples of which a heap of
    GRUB's is cut, but for what is taken from its start (CHUNK_TYPE_REGION_START).
    """

    def __init__(self, heap: Sequence[Span], offered: Sequence[Span], grain: int = 1, block: int = 1) -> None:
        self._heap = heap
        self._offered = offered
        self._grain = grain
        self._block = block
        self._begins: dict[int, int] = {}  # start of a heap → what of its start is gone
        self.chunks: list[Span] = []  #: what is in use, before the kernel's start or after it
        self.taken: list[Span] = []  #: of `heap`

    def claim(self, span: Span) -> None:
        """grub_relocator_alloc_chunk_addr: a chunk at its own address.

        Where that is not all GRUB's, it waits elsewhere for the kernel's start: as near above as it fits, and
        at the end of memory for what belongs below 1 MiB.
        """
        start = span.start - span.start % self._grain
        span = Span(start, align_up(span.end, self._grain) - start)
        if start >= _LOW:
            if any(free.covers(span) for free in self._free()):
                self.taken.append(span)
                span = self._cut(span)
            else:
                self._lowest(span.size, self._grain, start, _TOP)
        self.chunks.append(span)

    def place(self, size: int, align: int, least: int = 0, most: int = _TOP) -> int | None:
        """grub_relocator_alloc_chunk_align: the address of a new chunk; None when there is no room.

        GRUB itself goes on behind the end of the RAM when chunks are in the way, and writes to nothing.
        """
        size, align = align_up(size, self._grain), max(align, self._grain)
        at = self._lowest(size, align, least, most)
        if at is not None:
            return at
        for within in self._offered:
            at = align_up(max(within.start, least), align)
            while hit := next((c for c in self.chunks if c.overlaps(Span(at, size))), None):
                at = align_up(hit.end, align)
            if at + size <= min(within.end, most):
                self.chunks.append(Span(at, size))
                return at
        return None

    def would_place(self, size: int, align: int, least: int, most: int) -> int | None:
        """Where `place` would put the next chunk, in the heap."""
        align = max(align, self._grain)
        found = (
            at
            for free in self._free()
            if (at := align_up(max(free.start, least), align)) + size <= min(free.end, most)
        )
        return next(found, None)

    def _free(self) -> Iterator[Span]:
        return (free for within in self._heap for free in holes(within, self.chunks))

    def _lowest(self, size: int, align: int, least: int, most: int) -> int | None:
        at = self.would_place(size, align, least, most)
        if at is not None:
            self.chunks.append(self._cut(Span(at, size)))
            self.taken.append(self.chunks[-1])
        return at

    def _cut(self, span: Span) -> Span:
        """What of the heap is gone with a chunk."""
        within = next(heap.start for heap in self._heap if heap.covers(span))
        if span.start <= align_up(self._begins.get(within, within), self._block):
            self._begins[within] = span.end
            return span
        start = span.start - span.start % self._block
        return Span(start, align_up(span.end, self._block) - start)
