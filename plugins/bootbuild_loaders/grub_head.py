"""The beginning of a file as GRUB's Multiboot commands read it into memory, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from bootbuild_loaders import multiboot_rules, rules
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

LEAST = 32  #: bytes; shorter files are refused at once
NEAR = 1 << 16  #: bytes: a header there, but too far, is a mistake


def not_found(window: Window, magic: int) -> Stopped:
    """What GRUB says without a header. A file without the magic number even near by was not meant for it."""
    meant = magic.to_bytes(4, "little") in window.get(0, NEAR)
    text = "error: no multiboot header found."
    return Stopped(multiboot_rules.NO_MULTIBOOT, text, "refuse" if meant else "ignore")


class Head:
    """Up to `reach` bytes. What lies behind them in memory nobody has written: Stopped, not judged."""

    def __init__(self, window: Window, reach: int) -> None:
        self.data = window.get(0, reach)
        if len(self.data) < LEAST:
            raise Stopped(multiboot_rules.NO_MULTIBOOT, "error: premature end of file")

    def get(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`."""
        if offset < 0 or offset + size > len(self.data):
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        return self.data[offset : offset + size]

    def number(self, offset: int, size: int) -> int:
        """A little-endian number."""
        return int.from_bytes(self.get(offset, size), "little")

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        """Numbers of 4 bytes."""
        return tuple(self.number(offset + 4 * i, 4) for i in range(count))

    def find(self, magic: int, align: int, words: int) -> Iterator[int]:
        """Where headers lie whose `words` words add up to 0, and of which 12 bytes at least were read."""
        raw = magic.to_bytes(4, "little")
        at = self.data.find(raw)
        while 0 <= at <= len(self.data) - 12:
            if at % align == 0 and not sum(self.words(at, words)) & 0xFFFFFFFF:
                yield at
            at = self.data.find(raw, at + 1)
