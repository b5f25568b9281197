"""Bytes that are too many to copy: read by range, straight into the buffer that needs them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CHUNK = 1 << 20  #: bytes moved at a time when a whole content is streamed


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
        size = max(0, min(size, self._size - offset))
        return os.pread(self._fd, size, offset) if size else b""

    def read_into(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            got = os.preadv(self._fd, [buffer[done:]], offset + done)
            if not got:
                break
            done += got
        return done

    def fileno(self) -> int:
        """The open file, for mapping it; it stays this object's."""
        return self._fd

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)


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
        buffer = bytearray(max(0, min(size, self._size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        end = min(self._size, offset + len(buffer))
        if end <= offset:
            return 0
        _zero(buffer[: end - offset])
        for piece in self._pieces:
            first, last = max(offset, piece.at), min(end, piece.at + piece.size)
            if first < last:
                piece.source.read_into(
                    piece.offset + first - piece.at, buffer[first - offset : last - offset]
                )
        return end - offset


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


def digest(content: Content, offset: int = 0, size: int | None = None) -> str:
    """SHA-256 of a range, in hex."""
    state = hashlib.sha256()
    for part in chunks(content, offset, size):
        state.update(part)
    return state.hexdigest()
