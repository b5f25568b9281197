"""GRUB's two platforms that Multiboot is about, and which pieces of memory GRUB has on them for a kernel.

Follows grub-core/lib/relocator.c of GRUB 2.06: a piece is kept anywhere, and moved to its address when the
kernel is started, so that no address is refused because there is no memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild_loaders import rules
from bootbuild_loaders.stopped import Stopped

FOUR_GIB = 1 << 32
OUT_OF_MEMORY = "error: out of memory."


GRAIN = 16  #: GRUB_MM_ALIGN: a piece's last bytes up to this are nobody's
HEAP_START = 0x110000  #: where at the latest the PC's heap begins, behind GRUB's modules


@dataclass(frozen=True)
class Platform:
    """One build of GRUB, on the machine that is judged for."""

    name: str
    word: int  #: the largest size_t
    efi: bool
    ram: tuple[tuple[int, int], ...]  #: start and end of what the memory map offers
    room: int  #: bytes of the largest piece that it has
    heap_behind: bool  #: behind a piece lies GRUB's own heap

    @property
    def vga_text(self) -> bool:
        """GRUB_MACHINE_HAS_VGA_TEXT: a kernel without a framebuffer has a screen all the same."""
        return not self.efi

    def signed(self, size: int) -> int:
        """`size` as ssize_t."""
        size &= self.word
        return size - self.word - 1 if size > self.word >> 1 else size


PC = Platform(
    "i386-pc", (1 << 32) - 1, False, ((0, 0x9FC00), (1 << 20, 0x7FE0000)), 126 << 20, heap_behind=True
)
EFI64 = Platform(
    "x86_64-efi", (1 << 64) - 1, True, ((0, 0xA0000), (1 << 20, 500 << 20)), 370 << 20, heap_behind=False
)


class Chunks:
    """The pieces of one kernel."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._placed: list[tuple[int, int]] = []  #: targets and sizes

    def at(self, target: int, size: int) -> None:
        """grub_relocator_alloc_chunk_addr. Raises Stopped."""
        word = self.platform.word
        target, size = target & word, size & word
        if target > ~size & word:
            raise Stopped(rules.DOES_NOT_FIT, "error: address is out of range.")
        for start, length in self._placed:
            if start <= target < (start + length & word) or target <= start < (target + size & word):
                raise Stopped(rules.OVERLAP, "error: overlap detected.")
        self._fits(size)
        self._placed.append((target, size))

    def anywhere(self, size: int, align: int = 1, least: int = 0, most: int = FOUR_GIB) -> None:
        """grub_relocator_alloc_chunk_align: from `least` on, and not behind `most`. Raises Stopped."""
        size &= self.platform.word
        self._fits(size)
        for start, end in self.platform.ram:
            at = align_up(max(start, least), align)
            if at + size <= end and at <= most - size:
                return
        raise Stopped(rules.DOES_NOT_FIT, "error: couldn't find suitable memory target.")

    def check_boot(self) -> None:
        """grub_relocator32_boot on a PC needs heap below the kernel or above it. Raises Stopped."""
        if self.platform.efi or not self._placed:
            return
        lowest = min(start for start, _ in self._placed)
        if lowest < HEAP_START and max(map(sum, self._placed)) > self.platform.ram[-1][1]:
            raise Stopped(rules.DOES_NOT_FIT, OUT_OF_MEMORY)

    def _fits(self, size: int) -> None:
        if size > self.platform.room:
            raise Stopped(rules.DOES_NOT_FIT, OUT_OF_MEMORY)

    @staticmethod
    def spills(start: int, size: int, written: int) -> bool:
        """Whether `written` bytes at `start` go over what lies behind a piece of `size`."""
        return start + written > align_up(start + size, GRAIN)


def align_up(value: int, align: int) -> int:
    """ALIGN_UP of include/grub/misc.h, whatever `align` is: 0 for an `align` of 0."""
    return value + align - 1 & ~(align - 1)
