"""Where GRUB puts what it loads: grub-core/lib/relocator.c, in the memory that one firmware leaves to it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from bootbuild.api import EntryState, Load, Span, TableRegister, align_up, holes
from bootbuild.platform.flat32 import flat_state
from bootbuild.platform.loading import RESET_TR, put
from bootbuild_baremetal.environments.kernel import HIGH, Relocatable

_TOP, _LOW = 1 << 32, 1 << 20
# grub_relocator32_start: GRUB's last code, and its GDT, which lie in low memory when the kernel is entered
_GDT = struct.pack("<4Q", 0, 0, 0x00CF9A000000FFFF, 0x00CF93000000FFFF)
_LOWEST, _HIGHEST = 0x1000, 0x9A000  #: where that may be


class Relocator:
    """Chunks of physical memory: some where the kernel asks for them, the others at the lowest fit.

    `heap`: memory that GRUB has or gets, in ascending order, where a chunk lies at once. `offered`: the RAM
    of the memory map, to which a chunk that fits into no heap is moved when the kernel is started. `high`:
    the heap as a chunk finds it that likes the highest place. `grain`: bytes of which memory is given out in
    multiples. `block`: GRUB_MM_ALIGN, in multiples of which a heap of GRUB's is cut, but for what is taken
    from its start (CHUNK_TYPE_REGION_START).
    """

    def __init__(
        self,
        heap: Sequence[Span],
        offered: Sequence[Span],
        high: Sequence[Span] = (),
        grain: int = 1,
        block: int = 1,
    ) -> None:
        self._heap = heap
        self._offered = offered
        self._high = high
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

    def put(self, size: int, bounds: Relocatable) -> int | None:
        """grub_relocator_alloc_chunk_align_safe: where the one chunk of a kernel lies that may be moved.

        It comes before all others. None when there is no room. Where it lies at once GRUB takes the size off
        the upper bound twice, and once where it waits elsewhere for the kernel's start.
        """
        align = max(bounds.align, 1)
        least, most = align_up(bounds.least, align), bounds.most - size

        def lowest(spans: Sequence[Span], most: int) -> list[int]:
            starts = (align_up(max(span.start, least), align) for span in spans)
            fits = zip(starts, spans, strict=True)
            return [at for at, span in fits if at + size <= span.end and at <= most - most % align]

        def highest(spans: Sequence[Span], most: int) -> list[int]:
            found = [span for span in spans if lowest([span], most)]
            ends = (min(span.end - size, most) for span in found)
            return sorted((end - end % align for end in ends), reverse=True)

        high = bounds.preference == HIGH
        at_once = found = highest(self._high, most - size) if high else lowest(self._heap, most - size)
        if not at_once:
            self._lowest(size, align, 0, _TOP)
            found = (highest if high else lowest)(self._offered, most)
        if not found:
            return None
        start = found[0] - found[0] % self._grain
        chunk = Span(start, align_up(found[0] + size, self._grain) - start)
        if at_once:
            self.taken.append(chunk)
            chunk = self._cut(chunk)
        self.chunks.append(chunk)
        return found[0]

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

    def place_high(self, size: int, align: int, least: int, most: int) -> int | None:
        """The same by GRUB_RELOCATOR_PREFERENCE_HIGH, in the heap: at `most` or just below."""
        found = (
            where
            for free in reversed([*self._free()])
            if (where := min(most, free.end - size) & -align) >= max(free.start, least)
        )
        at = next(found, None)
        if at is not None:
            self.chunks.append(self._cut(Span(at, size)))
            self.taken.append(self.chunks[-1])
        return at

    def _free(self) -> Iterator[Span]:
        return (free for within in self._heap for free in holes(within, self.chunks))

    def _lowest(self, size: int, align: int, least: int, most: int) -> int | None:
        align = max(align, self._grain)
        found = (
            at
            for free in self._free()
            if (at := align_up(max(free.start, least), align)) + size <= min(free.end, most)
        )
        place = next(found, None)
        if place is not None:
            self.chunks.append(self._cut(Span(place, size)))
            self.taken.append(self.chunks[-1])
        return place

    def _cut(self, span: Span) -> Span:
        """What of the heap is gone with a chunk."""
        within = next((heap.start for heap in self._heap if heap.covers(span)), None)
        if within is None:
            return span
        if span.start <= align_up(self._begins.get(within, within), self._block):
            self._begins[within] = span.end
            return span
        start = span.start - span.start % self._block
        return Span(start, align_up(span.end, self._block) - start)


def entered(
    entry: int, registers: Mapping[str, int], memory: Relocator, left: EntryState, size: int, gdt_offset: int
) -> tuple[EntryState, Load]:
    """The state after grub_relocator32, and its GDT. `left`: what the firmware had and GRUB keeps.

    `size`: bytes of that code; `gdt_offset`: of the GDT in it.
    """
    code = memory.place(size, 16, _LOWEST, _HIGHEST) or _LOWEST
    gdt = code + gdt_offset
    state = flat_state(
        entry,
        {**registers, "rflags": left.registers["rflags"]},
        code=0x10,
        data=0x18,
        tr=RESET_TR,
        cr0=left.cr0,
        cr3=left.cr3,
        cr4=left.cr4,
        efer=left.efer,
        gdtr=TableRegister(gdt, len(_GDT)),  # not less one: gdt_end - gdt
        idtr=left.idtr,
    )
    return state, put(gdt, _GDT)
