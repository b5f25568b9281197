"""The host's memory behind one region: contents mapped or copied, zeros, and garbage that costs no page."""

from __future__ import annotations

import ctypes
import functools
import itertools
import mmap
import os
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bootbuild.model.content import Content, SealedContent
from bootbuild.model.garbage import SIZE as PATTERN
from bootbuild.model.garbage import garbage_of
from bootbuild.model.machine import Region, RegionKind
from bootbuild.model.span import Span, align_up

PAGE = 4096
_SHEET = 2 << 20  #: bytes of it that are mapped at a time
_REMAP = 1 << 16  #: zeros from here on are cheaper as fresh pages than as a fill
_LINUX = sys.platform == "linux"


@dataclass
class Block:
    """One region's backing: `view` is the mapping itself."""

    span: Span
    kind: RegionKind
    map: mmap.mmap
    pin: ctypes.Array[ctypes.c_char]
    address: int
    view: memoryview

    def close(self) -> None:
        """Unmap it; the core must be closed before."""
        self.view.release()
        del self.pin
        try:
            self.map.close()
        except BufferError:  # the frames of an exception still look at it; it goes with them
            pass


def back(region: Region, seed: int) -> Block:
    """Memory for a region; with a seed its RAM is full of garbage, else of zeros."""
    size = region.span.size
    # private: a shared one cannot be told from a file's pages (`written`)
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pin = (ctypes.c_char * size).from_buffer(pages)
    block = Block(region.span, region.kind, pages, pin, ctypes.addressof(pin), memoryview(pin).cast("B"))
    if seed and region.kind in (RegionKind.RAM, RegionKind.FREE):
        _fill(block, seed)
    return block


def put(block: Block, at: int, content: Content, offset: int, size: int) -> int:
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


def written(address: int, size: int) -> Iterator[tuple[int, int]]:
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


def zero(block: Block, at: int, size: int) -> None:
    """Zeros; whole pages are replaced by fresh ones, which cost nothing until they are used."""
    if _LINUX and size >= _REMAP:
        first = -(-at // PAGE) * PAGE
        last = (at + size) // PAGE * PAGE
        ctypes.memset(block.address + at, 0, first - at)
        _remap(block.address + first, last - first, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        ctypes.memset(block.address + last, 0, at + size - last)
    elif size:
        ctypes.memset(block.address + at, 0, size)


def _fill(block: Block, seed: int) -> None:
    """Garbage: a copy-on-write file of it is mapped again and again, touching no page; else it is copied."""
    start, end = block.span.start, block.span.end
    fd = _sheet(seed)
    if fd is None:
        pattern = garbage_of(seed)
        at = start
        while at < end:
            part = min(PATTERN - at % PATTERN, end - at)
            block.view[at - start : at - start + part] = pattern[at % PATTERN : at % PATTERN + part]
            at += part
        return
    at = start
    while at < end:
        part = min(_SHEET - at % _SHEET, end - at)
        _remap(block.address + at - start, part, mmap.MAP_PRIVATE, fd, at % _SHEET)
        at += part


@functools.cache
def _sheet(seed: int) -> int | None:
    """A file of garbage, open as long as the process lives: profiles have two seeds.

    None without Linux, or where the process may write no such file (RLIMIT_FSIZE).
    """
    if not _LINUX:
        return None
    fd = os.memfd_create("bootbuild-garbage", os.MFD_CLOEXEC)
    try:
        done = sum(os.write(fd, garbage_of(seed)) for _ in range(_SHEET // PATTERN))
    except OSError:
        done = 0
    if done == _SHEET:
        return fd
    os.close(fd)
    return None


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
