"""Bytes that are too many to copy: read by range, straight into the buffer that needs them."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CHUNK = 1 << 20  #: bytes moved at a time when a whole content is streamed
LARGEST = 1 << 30  #: bytes of which a snapshot is made; of a kernel's file no more can be of use to a machine


class CutShort(Exception):
    """A file lost bytes while it was in use: another program writes onto it. Its argument is the path."""


class Content(Protocol):
    """A fixed sequence of bytes with random access. Never changes while in use."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end."""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; the number of bytes there were."""


class MemoryContent:
    """Content that already lies in memory (a decompressed kernel, a generated image)."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B").toreadonly()

    @property
    def size(self) -> int:
        return len(self._view)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._view[offset : offset + size])

    def read_into(self, offset: int, buffer: memoryview) -> int:
        part = self._view[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


class DeferredContent:
    """`size` bytes that `make` gives when they are first read: before that they take no memory."""

    def __init__(self, size: int, make: Callable[[], bytes]) -> None:
        self._size = size
        self._make = make

    @property
    def size(self) -> int:
        return self._size

    @functools.cached_property
    def _made(self) -> MemoryContent:
        return MemoryContent(self._make())

    def read(self, offset: int, size: int) -> bytes:
        return self._made.read(offset, size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._made.read_into(offset, buffer)


class FileContent:
    """Content of a regular file, kept open; its pages never count as this process's own memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._size = os.fstat(self._fd).st_size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`. Raises CutShort where the file has lost some."""
        size = max(0, min(size, self._size - offset))
        data = os.pread(self._fd, size, offset) if size else b""
        if len(data) == size:
            return data
        buffer = bytearray(size)  # the system gives less than it was asked for from 2 GiB on
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Raises CutShort where the file has lost some of its bytes."""
        size = max(0, min(len(buffer), self._size - offset))
        done = 0
        while done < size:
            got = os.preadv(self._fd, [buffer[done:size]], offset + done)
            if not got:
                raise CutShort(self.path)
            done += got
        return done

    def fileno(self) -> int:
        """The open file, for mapping it; it stays this object's."""
        return self._fd

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)


class SealedContent(FileContent):
    """The bytes that a file had, in memory of the kernel's that nothing can write or cut off any more.

    Its pages can be mapped: those of a file would be gone, and the process with them (SIGBUS), when another
    program cuts the file short. Raises OSError where there is no such memory, and CutShort.
    """

    def __init__(self, source: FileContent) -> None:
        self._fd = -1
        if not hasattr(os, "memfd_create"):
            raise OSError(errno.ENOSYS, "no memfd_create(2)")
        self.path = source.path
        self._size = source.size
        self._fd = os.memfd_create("bootbuild-image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._fd, self._size)
        _copy(source, self._fd)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, seals)


def snapshot(source: FileContent) -> Content:
    """The bytes that a file has now, whatever becomes of it: in sealed memory, or else in the process's own.

    A file of more than LARGEST bytes stays what it is; it is read, never mapped. Raises CutShort.
    """
    if source.size > LARGEST:
        return source
    try:
        return SealedContent(source)
    except OSError:
        return MemoryContent(source.read(0, source.size))


def _copy(source: FileContent, fd: int) -> None:
    """All of `source` to the same places of the file `fd`, which is one hole of its size; its holes stay."""
    at = 0
    while at < source.size:
        try:
            at = os.lseek(source.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # such as EINVAL: this file system does not tell
                raise
            break  # the rest is a hole
        end = min(source.size, os.lseek(source.fileno(), at, os.SEEK_HOLE))
        os.lseek(fd, at, os.SEEK_SET)
        while at < end:
            done = os.sendfile(fd, source.fileno(), at, end - at)
            if not done:
                raise CutShort(source.path)
            at += done
    if os.fstat(source.fileno()).st_size < source.size:  # behind the new end all is a hole
        raise CutShort(source.path)


@dataclass(frozen=True)
class Piece:
    """`size` bytes of `source` from `offset` on, to stand at `at`."""

    at: int
    source: Content
    offset: int
    size: int


class SplicedContent:
    """Content made of pieces of others, without copying them. Later pieces win; between them are zeros."""

    def __init__(self, size: int, pieces: Iterable[Piece]) -> None:
        self._size = size
        self._pieces = tuple(pieces)

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self._size - offset))
        piece = self._with_all(offset, offset + size)
        data = b"" if piece is None else piece.source.read(piece.offset + offset - piece.at, size)
        if len(data) == size:
            return data
        buffer = bytearray(size)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def _with_all(self, offset: int, end: int) -> Piece | None:
        """The piece that has all of a range, which then need not be put together."""
        for piece in reversed(self._pieces):
            if piece.at < end and offset < piece.at + piece.size:
                return piece if piece.at <= offset and end <= piece.at + piece.size else None
        return None

    def read_into(self, offset: int, buffer: memoryview) -> int:
        end = min(self._size, offset + len(buffer))
        if end <= offset:
            return 0
        piece = self._with_all(offset, end)
        if piece is not None:
            part = buffer[: end - offset]
            if piece.source.read_into(piece.offset + offset - piece.at, part) == len(part):
                return len(part)
        _zero(buffer[: end - offset])
        for piece in self._pieces:
            first, last = max(offset, piece.at), min(end, piece.at + piece.size)
            if first < last:
                piece.source.read_into(
                    piece.offset + first - piece.at, buffer[first - offset : last - offset]
                )
        return end - offset


def joined(parts: Iterable[Content]) -> Content:
    """Parts one behind the other."""
    pieces: list[Piece] = []
    size = 0
    for part in parts:
        pieces.append(Piece(size, part, 0, part.size))
        size += part.size
    return SplicedContent(size, pieces)


def part_of(content: Content, offset: int, size: int) -> Content:
    """Up to `size` bytes of a content from `offset` on, by reference; fewer where it ends."""
    size = max(0, min(size, content.size - offset))
    return SplicedContent(size, [Piece(0, content, offset, size)])


def _zero(buffer: memoryview) -> None:
    for at in range(0, len(buffer), len(_ZEROS)):
        part = buffer[at : at + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]


_ZEROS = bytes(1 << 16)


def chunks(content: Content, offset: int = 0, size: int | None = None) -> Iterator[memoryview]:
    """Stream `size` bytes (default: to the end). Each view is valid until the next is asked for."""
    left = content.size - offset if size is None else size
    buffer = memoryview(bytearray(min(CHUNK, max(left, 0))))
    while left > 0:
        got = content.read_into(offset, buffer[: min(left, CHUNK)])
        if not got:
            return
        yield buffer[:got].toreadonly()
        offset += got
        left -= got


def first_difference(old: Content, at: int, new: Content, place: int, size: int) -> int | None:
    """How far from the starts of two ranges of `size` bytes they differ, or one ends; None: nowhere."""
    ours = theirs = bytearray()
    done = 0
    while done < size:
        step = min(CHUNK, size - done)
        if step != len(ours):
            ours, theirs = bytearray(step), bytearray(step)
        end = min(old.read_into(at + done, memoryview(ours)), new.read_into(place + done, memoryview(theirs)))
        if end < step or ours != theirs:  # whole bytearrays: of memoryviews each byte is compared by itself
            return done + next((i for i in range(end) if ours[i] != theirs[i]), end)
        done += step
    return None


def digest(content: Content, offset: int = 0, size: int | None = None) -> str:
    """SHA-256 of a range, in hex."""
    state = hashlib.sha256()
    for part in chunks(content, offset, size):
        state.update(part)
    return state.hexdigest()
