"""Bytes of a file by offset, read a page at a time: headers and notes without the bulk around them."""

from __future__ import annotations

from bootbuild.api import Content

PAGE = 1 << 13  #: bytes read at once: few enough that headers far apart cost little
KEPT = 512  #: pages
NOTES_MAX = 1 << 18  #: notes of a file that are followed: half a second; the programs have no limit
PACKED_MAX = 512 << 20  #: bytes of packed data that are unpacked


class Window:
    """Random access to small parts of a content. Offsets are in bytes; nothing outside the file is read."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.size = content.size
        self._pages: dict[int, bytes] = {}
        self._notes = 0

    def _page(self, index: int) -> bytes:
        page = self._pages.get(index)
        if page is None:
            if len(self._pages) == KEPT:
                self._pages.clear()
            page = self._pages[index] = self.content.read(index * PAGE, PAGE)
        return page

    def another(self, cost: int = 1) -> bool:
        """Count one more note, however it was come by; False when there are more than can be followed."""
        self._notes += cost
        return self._notes <= NOTES_MAX

    def get(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`: fewer where the file ends, none outside it."""
        if offset < 0 or offset >= self.size or size <= 0:
            return b""
        index, at = divmod(offset, PAGE)
        if at + size <= PAGE:
            return self._page(index)[at : at + size]
        if size > PAGE:
            return self.content.read(offset, size)
        return (self._page(index) + self._page(index + 1))[at : at + size]

    def number(self, offset: int, size: int) -> int | None:
        """A little-endian number; None unless all its bytes are in the file."""
        raw = self.get(offset, size)
        return int.from_bytes(raw, "little") if len(raw) == size else None

    def u16(self, offset: int) -> int:
        """A little-endian number of 2 bytes; what lies outside the file reads as zeros."""
        return int.from_bytes(self.get(offset, 2), "little")

    def u32(self, offset: int) -> int:
        """The same of 4 bytes."""
        return int.from_bytes(self.get(offset, 4), "little")

    def string(self, offset: int, limit: int) -> bytes | None:
        """The bytes before a NUL, which must be among the `limit` bytes from `offset`; None if it is not."""
        raw = self.get(offset, limit)
        end = raw.find(0)
        return raw[:end] if end >= 0 else None


def packed(content: Content, start: int, size: int) -> bytes:
    """All of the packed data at `start`. Raises ValueError for more than anybody's kernel."""
    if size > PACKED_MAX:
        raise ValueError(f"{size} packed bytes")
    return content.read(start, size)
