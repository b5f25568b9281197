"""Physical memory: what the scene's regions map, garbage where nothing is loaded, loads without a copy."""

from __future__ import annotations

import ctypes
import functools
import itertools
import mmap
import os
import random
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bootbuild.machine.binding import uc
from bootbuild.machine.engine import Core
from bootbuild.model.content import Content, SealedContent
from bootbuild.model.machine import Load, Region, RegionKind
from bootbuild.model.span import Span, align_up, holes

PAGE = 4096
_PATTERN = 64 << 10  #: bytes of garbage that repeat; the garbage at an address depends on it modulo this
_SHEET = 2 << 20  #: bytes of it that are mapped at a time
_STEP = 1 << 20  #: bytes that are compared at a time
_PART = 2 << 20  #: bytes of RAM that are made executable together, at least
_REMAP = 1 << 16  #: zeros from here on are cheaper as fresh pages than as a fill
_PROT = {
    RegionKind.RAM: uc.UC_PROT_READ | uc.UC_PROT_WRITE,  # until code is fetched: `allow_code`
    RegionKind.ROM: uc.UC_PROT_READ | uc.UC_PROT_EXEC,
    RegionKind.RESERVED: uc.UC_PROT_READ | uc.UC_PROT_EXEC,
    RegionKind.FREE: uc.UC_PROT_READ | uc.UC_PROT_EXEC,
}
_LINUX = sys.platform == "linux"


@dataclass
class _Block:
    """One region's backing: `view` is the mapping itself."""

    span: Span
    kind: RegionKind
    map: mmap.mmap
    pin: ctypes.Array[ctypes.c_char]
    address: int
    view: memoryview


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
        self._blocks: list[_Block] = []
        self._last: _Block | None = None
        self._seed = garbage
        try:
            for region in self.regions:
                if region.kind is not RegionKind.MMIO:
                    self._blocks.append(self._back(region))
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
            block.view.release()
            del block.pin
            try:
                block.map.close()
            except BufferError:  # the frames of an exception still look at it; it goes with them
                pass
        self._blocks.clear()
        self._last = None

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
        """The first address at which memory no longer holds the bytes of a load; None if it holds them all.

        Pages that are still the file's own need not be read.
        """
        done = 0
        for block, at, part in self._pieces(load.address, load.size):
            for start, size in _written(block.address + at, part):
                for offset in range(start, start + size, _STEP):
                    step = min(_STEP, start + size - offset)
                    was = load.content.read(load.offset + done + offset, step)
                    now = bytes(block.view[at + offset : at + offset + step])
                    if now != was:
                        return load.address + done + offset + _difference(now, was)
            done += part
        return None

    # ------------------------------------------------------------------------------------------------

    def _find(self, address: int) -> _Block | None:
        last = self._last
        if last is not None and address in last.span:
            return last
        for block in self._blocks:
            if address in block.span:
                self._last = block
                return block
        return None

    def _at(self, address: int) -> _Block:
        block = self._find(address)
        assert block is not None
        return block

    def _pieces(self, address: int, size: int) -> Iterator[tuple[_Block, int, int]]:
        """The parts of a range: block, offset in it, size."""
        while size > 0:
            block = self._find(address)
            if block is None:
                raise LookupError(f"no memory at physical address {address:#x}")
            part = min(size, block.span.end - address)
            yield block, address - block.span.start, part
            address, size = address + part, size - part

    def _back(self, region: Region) -> _Block:
        size = region.span.size
        # private: a shared one cannot be told from a file's pages (`_written`)
        pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pin = (ctypes.c_char * size).from_buffer(pages)
        block = _Block(region.span, region.kind, pages, pin, ctypes.addressof(pin), memoryview(pin).cast("B"))
        if self._seed and region.kind in (RegionKind.RAM, RegionKind.FREE):
            _fill(block, self._seed)
        return block

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
                short = take - _put(block, at, load.content, offset, take)
                if short:
                    raise ValueError(f"the content of the load at {load.address:#x} is {short} bytes short")
                offset, left = offset + take, left - take
            _zero(block, at + take, part - take)


def _put(block: _Block, at: int, content: Content, offset: int, size: int) -> int:
    """Bytes of a content into memory; how many there were.

    Whole pages of a sealed content are mapped, not copied: those that a guest leaves alone cost nothing.
    Those of a file are copied, since a page behind its end is fatal, and another program may cut it short.
    """
    if not (_LINUX and isinstance(content, SealedContent) and size >= _REMAP and (at - offset) % PAGE == 0):
        return content.read_into(offset, block.view[at : at + size])
    size = max(0, min(size, content.size - offset))
    first, last = align_up(at, PAGE), (at + size) // PAGE * PAGE
    done = content.read_into(offset, block.view[at:first])
    _remap(block.address + first, last - first, mmap.MAP_PRIVATE, content.fileno(), offset + first - at)
    return done + last - first + content.read_into(offset + last - at, block.view[last : at + size])


def _written(address: int, size: int) -> Iterator[tuple[int, int]]:
    """(offset, size) of the parts of our memory that may differ from the file that is mapped there.

    Linux says of each page whether it is a file's (Documentation/admin-guide/mm/pagemap.rst: bit 63
    present, 62 swapped, 61 of a file); where it does not, everything may differ.
    """
    first = address // PAGE
    count = (address + size - 1) // PAGE - first + 1
    pages = array("Q")
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            pagemap.seek(first * pages.itemsize)
            pages.frombytes(pagemap.read(count * pages.itemsize))
    except (OSError, ValueError):
        pass
    if len(pages) != count:
        yield 0, size
        return
    for ours, group in itertools.groupby(enumerate(pages), lambda page: page[1] >> 61 in (2, 4, 6)):
        if ours:
            numbers = [number for number, _ in group]
            start = max(address, (first + numbers[0]) * PAGE)
            yield start - address, min(address + size, (first + numbers[-1] + 1) * PAGE) - start


def _difference(a: bytes, b: bytes) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _zero(block: _Block, at: int, size: int) -> None:
    """Zeros; whole pages are replaced by fresh ones, which cost nothing until they are used."""
    if _LINUX and size >= _REMAP:
        first = -(-at // PAGE) * PAGE
        last = (at + size) // PAGE * PAGE
        ctypes.memset(block.address + at, 0, first - at)
        _remap(block.address + first, last - first, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        ctypes.memset(block.address + last, 0, at + size - last)
    elif size:
        ctypes.memset(block.address + at, 0, size)


def _fill(block: _Block, seed: int) -> None:
    """Garbage: on Linux one copy-on-write file of it is mapped again and again, touching no page."""
    start, end = block.span.start, block.span.end
    if not _LINUX:
        pattern = _pattern(seed)
        at = start
        while at < end:
            part = min(_PATTERN - at % _PATTERN, end - at)
            block.view[at - start : at - start + part] = pattern[at % _PATTERN : at % _PATTERN + part]
            at += part
        return
    fd = os.memfd_create("bootbuild-garbage", os.MFD_CLOEXEC)
    try:
        for _ in range(_SHEET // _PATTERN):
            os.write(fd, _pattern(seed))
        at = start
        while at < end:
            part = min(_SHEET - at % _SHEET, end - at)
            _remap(block.address + at - start, part, mmap.MAP_PRIVATE, fd, at % _SHEET)
            at += part
    finally:
        os.close(fd)


@functools.lru_cache(maxsize=2)
def _pattern(seed: int) -> bytes:
    return random.Random(seed).randbytes(_PATTERN)  # noqa: S311 (garbage is no secret)


@functools.cache
def _libc_mmap() -> Callable[..., int]:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    return function


def _remap(address: int, size: int, flags: int, fd: int, offset: int) -> None:
    """Put other pages into a part of a mapping that is ours."""
    if not size:
        return
    map_fixed = 0x10  # the same on every Linux architecture but alpha (asm-generic/mman-common.h)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    if _libc_mmap()(address, size, protection, flags | map_fixed, fd, offset) != address:
        raise OSError(ctypes.get_errno(), "guest memory cannot be mapped")
