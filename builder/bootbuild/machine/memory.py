"""Physical memory: what the scene's regions map, garbage where nothing is loaded, loads without a copy."""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from bootbuild.machine.binding import uc
from bootbuild.machine.block import PAGE, Block, back, put, written, zero
from bootbuild.machine.engine import Core
from bootbuild.model.machine import Load, Region, RegionKind
from bootbuild.model.span import Span, holes

_STEP = 1 << 20  #: bytes that are compared at a time
_PART = 2 << 20  #: bytes of RAM that are made executable together, at least
_PROT = {
    RegionKind.RAM: uc.UC_PROT_READ | uc.UC_PROT_WRITE,  # until code is fetched: `allow_code`
    RegionKind.ROM: uc.UC_PROT_READ | uc.UC_PROT_EXEC,
    RegionKind.RESERVED: uc.UC_PROT_READ | uc.UC_PROT_EXEC,
    RegionKind.FREE: uc.UC_PROT_READ | uc.UC_PROT_EXEC,
}


class Memory:
    """The physical address space of one scene. All addresses physical, sizes in bytes.

    Raises ValueError for regions that overlap or are not made of whole pages, and for a load that lies
    outside memory: a profile must have refused the image before.
    """

    def __init__(self, regions: Sequence[Region], loads: Sequence[Load], garbage: int) -> None:
        self.regions = tuple(sorted(regions, key=lambda region: region.span.start))
        end = 0
        for region in self.regions:
            if region.span.start % PAGE or region.span.size % PAGE or region.span.size <= 0:
                raise ValueError(f"region {region.span} is not made of whole pages")
            if region.span.start < end:
                raise ValueError(f"region {region.span} overlaps the one before it")
            end = region.span.end
        ram = sum(r.span.size for r in self.regions if r.kind in (RegionKind.RAM, RegionKind.FREE))
        self._part = max(_PART, 1 << (ram >> 6).bit_length())  # some 64, since the engine maps more slowly
        self._blocks: list[Block] = []
        self._starts: list[int] = []  #: of the blocks
        self._loads = tuple(loads)
        try:
            for region in self.regions:
                if region.kind is not RegionKind.MMIO:
                    self._blocks.append(back(region, garbage))
                    self._starts.append(region.span.start)
            for load in loads:
                self._load(load)
        except BaseException:
            self.close()
            raise

    def map_into(
        self,
        core: Core,
        mmio_read: Callable[[int, int], int],
        mmio_write: Callable[[int, int, int], None],
    ) -> None:
        """Give the core its memory. The callbacks get physical address, size in bytes (and value)."""
        read, write = core.guard(mmio_read), core.guard(mmio_write)
        for block in self._blocks:
            for part in self._parts(block.span, block.kind):
                where = block.address + part.start - block.span.start
                core.uc.mem_map_ptr(part.start, part.size, _PROT[block.kind], where)
        for region in self.regions:
            if region.kind is RegionKind.MMIO:
                start = region.span.start
                core.uc.mmio_map(
                    start,
                    region.span.size,
                    lambda _uc, offset, size, base: read(base + offset, size),
                    start,
                    lambda _uc, offset, size, value, base: write(base + offset, size, value),
                    start,
                )

    def retype(self, core: Core, span: Span, kind: RegionKind) -> None:
        """Make whole pages of memory another kind. The core must not run. ValueError where there is none."""
        parts = [region for region in self.regions if region.span.overlaps(span)]
        inside = sum(min(p.span.end, span.end) - max(p.span.start, span.start) for p in parts)
        if span.start % PAGE or span.size % PAGE or inside != span.size:
            raise ValueError(f"{span} is not made of whole pages of memory")
        rest = [replace(p, span=hole) for p in parts for hole in holes(p.span, [span])]
        others = [region for region in self.regions if region not in parts]
        regions = [*others, *rest, Region(span, kind)]
        self.regions = tuple(sorted(regions, key=lambda region: region.span.start))
        for part in self._parts(span, kind):
            core.uc.mem_protect(part.start, part.size, _PROT[kind])
        core.forget_all_code()

    def allow_code(self, core: Core, address: int) -> bool:
        """The core fetches from RAM that was data until now, and may go on.

        What it stores in a part that it knows to hold no code is not looked up among its translations. Parts
        are never split, which would move them, and code is never forbidden again.
        """
        region = self.region(address)
        if region is None or region.kind is not RegionKind.RAM:
            return False
        part = next(part for part in self._parts(region.span, region.kind) if address in part)
        core.uc.mem_protect(part.start, part.size, uc.UC_PROT_ALL)
        return True

    def close(self) -> None:
        """Unmap everything; the core must be closed before."""
        for block in self._blocks:
            block.close()
        self._blocks.clear()
        self._starts.clear()

    def region(self, address: int) -> Region | None:
        """The region that answers at an address; None where nothing does."""
        for region in self.regions:
            if address in region.span:
                return region
        return None

    def all_ram(self, span: Span) -> bool:
        """Whether a range is RAM throughout, in as many regions as it may be."""
        return not holes(span, [region.span for region in self.regions if region.kind is RegionKind.RAM])

    def backing(self, address: int) -> Span:
        """What lies in one piece of the host's memory with an address of memory: never less than its page."""
        return self._at(address).span

    def word(self, address: int, size: int) -> int | None:
        """A little-endian number of `size` bytes within one block; None where there is no memory."""
        block = self._find(address)
        if block is None or address + size > block.span.end:
            return None
        at = address - block.span.start
        return int.from_bytes(block.view[at : at + size], "little")

    def read(self, address: int, size: int) -> bytes:
        """Bytes; LookupError where there is no memory."""
        return b"".join(block.view[at : at + part] for block, at, part in self._pieces(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Put bytes as the environment, also into ROM; LookupError where there is no memory."""
        pieces = list(self._pieces(address, len(data)))
        done = 0
        for block, at, part in pieces:
            block.view[at : at + part] = data[done : done + part]
            done += part

    def fill(self, address: int, pattern: bytes, count: int) -> None:
        """`count` copies of a pattern, one behind the other, within one `backing`."""
        block = self._at(address)
        at, size = address - block.span.start, len(pattern) * count
        if pattern.count(pattern[0]) == len(pattern):
            ctypes.memset(block.address + at, pattern[0], size)
        else:
            block.view[at : at + size] = pattern * count

    def move(self, to: int, source: int, size: int) -> None:
        """Copy within memory as memmove does; each side within one `backing`."""
        target, origin = self._at(to), self._at(source)
        ctypes.memmove(
            target.address + to - target.span.start, origin.address + source - origin.span.start, size
        )

    def first_change(self, load: Load) -> int | None:
        """The first address at which memory does not hold the bytes of a load; None if it holds them all.

        Of what was loaded so when the scene was set up, pages that are still the file's need not be read.
        """
        done = 0
        ours = self._was_loaded(load)
        for block, at, part in self._pieces(load.address, load.size):
            for start, size in written(block.address + at, part) if ours else [(0, part)]:
                for offset in range(start, start + size, _STEP):
                    step = min(_STEP, start + size - offset)
                    was = load.content.read(load.offset + done + offset, step)
                    now = bytes(block.view[at + offset : at + offset + step])
                    if now != was:
                        return load.address + done + offset + _difference(now, was)
            done += part
        return None

    # ------------------------------------------------------------------------------------------------

    def _was_loaded(self, load: Load) -> bool:
        """Whether these bytes were put there by one of the scene's loads, and by none after it others."""
        index = bisect_right(self._uncovered, load.address, key=lambda one: one.address) - 1
        one = self._uncovered[index] if index >= 0 else None
        return (
            one is not None
            and one.content is load.content
            and one.offset - one.address == load.offset - load.address
            and Span(one.address, one.size).covers(Span(load.address, load.size))
        )

    @cached_property
    def _uncovered(self) -> list[Load]:
        """The loads of which no later one has covered a part, by address; a scene may have thousands."""
        found: list[Load] = []
        later: list[Span] = []  #: apart from each other, by address
        for load in reversed(self._loads):
            span = Span(load.address, load.memsz)
            first = bisect_right(later, span.start, key=lambda other: other.end)
            last = bisect_left(later, span.end, key=lambda other: other.start)
            if first >= last:
                found.append(load)
            over = [span, *later[first:last]]
            start, end = min(one.start for one in over), max(one.end for one in over)
            later[first:last] = [Span(start, end - start)]
        return sorted(found, key=lambda load: load.address)

    def _find(self, address: int) -> Block | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        block = self._blocks[index]
        return block if address - self._starts[index] < block.span.size else None

    def _at(self, address: int) -> Block:
        block = self._find(address)
        assert block is not None
        return block

    def _pieces(self, address: int, size: int) -> Iterator[tuple[Block, int, int]]:
        """The parts of a range: block, offset in it, size."""
        while size > 0:
            block = self._find(address)
            if block is None:
                raise LookupError(f"no memory at physical address {address:#x}")
            part = min(size, block.span.end - address)
            yield block, address - block.span.start, part
            address, size = address + part, size - part

    def _parts(self, span: Span, kind: RegionKind) -> Iterator[Span]:
        """Memory in parts, each of which holds code or does not; they end where any region's would.

        The engine splits what it has mapped page by page: what can become RAM is mapped in parts from the
        start.
        """
        at = span.start
        while at < span.end:
            whole = kind not in (RegionKind.RAM, RegionKind.FREE)
            end = span.end if whole else min(span.end, at // self._part * self._part + self._part)
            yield Span(at, end - at)
            at = end

    def _load(self, load: Load) -> None:
        if load.size > load.memsz:
            raise ValueError(f"load at {load.address:#x} has more bytes than memory")
        try:
            pieces = list(self._pieces(load.address, load.memsz))
        except LookupError:
            raise ValueError(
                f"load {Span(load.address, load.memsz)} lies outside the memory of the scene"
            ) from None
        offset, left = load.offset, load.size
        for block, at, part in pieces:
            take = min(left, part)
            if take:
                short = take - put(block, at, load.content, offset, take)
                if short:
                    raise ValueError(f"the content of the load at {load.address:#x} is {short} bytes short")
                offset, left = offset + take, left - take
            zero(block, at + take, part - take)


def _difference(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
