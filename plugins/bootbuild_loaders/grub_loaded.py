"""What both of GRUB's Multiboot commands share: loading by addresses, and the verdict on what was loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bootbuild.api import LoaderVerdict
from bootbuild_loaders import multiboot_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_chunks import FOUR_GIB, Chunks, Platform
from bootbuild_loaders.grub_elf import Loaded
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

HEAP_BROKEN = "(it overwrites its heap)"
CLEARS_ALL = "(it clears all memory)"

#: The rules that the models of both name.
BOTH = only(
    rules.NOT_A_KERNEL,
    rules.HEADERS_OUTSIDE,
    rules.MACHINE,
    rules.DOES_NOT_FIT,
    rules.SEGMENT_OUTSIDE,
    rules.OVERLAP,
    rules.MULTIBOOT_ADDRESSES,
    rules.NOT_JUDGED,
    rules.FILE_OVER_MEMORY,
    multiboot_rules.NO_MULTIBOOT,
    multiboot_rules.UNKNOWN_REQUEST,
    multiboot_rules.ELF_TYPE,
    multiboot_rules.FAR_PHDRS,
    multiboot_rules.ENTRY_OUTSIDE,
    multiboot_rules.SCREEN,
)


@dataclass(frozen=True)
class Addresses:
    """Where the file's bytes go by a header: from `offset` of the file, `size` bytes or all, to `load`.

    Numbers as the header has them, without their signs; `bss_end` 0 leaves nothing to clear.
    """

    offset: int
    load: int
    size: int | None
    bss_end: int

    def code_size(self, window: Window) -> int:
        """Bytes of memory, a number with sign where it contradicts itself."""
        return self.bss_end - self.load if self.bss_end else self.load_size(window)

    def load_size(self, window: Window) -> int:
        """The int that GRUB computes."""
        return _int(window.size - _int(self.offset) if self.size is None else self.size)

    def read(self, window: Window, chunks: Chunks) -> bool:
        """Load it, `chunks` having place for it; whether it was read over its place. Raises Stopped."""
        offset, load_size, platform = _int(self.offset), self.load_size(window), chunks.platform
        code_size = self.code_size(window) & platform.word
        if not 0 <= offset <= window.size:
            text = "error: attempt to seek outside of the file."
            raise Stopped(rules.MULTIBOOT_ADDRESSES, text)
        written = min(load_size & platform.word, window.size - offset)
        if self.bss_end and (load_size < 0 or load_size > code_size):
            raise Stopped(rules.MULTIBOOT_ADDRESSES, CLEARS_ALL, "crash")
        return chunks.spills(self.load, code_size, written)


def _int(value: int) -> int:
    """As C's int."""
    value &= FOUR_GIB - 1
    return value - FOUR_GIB if value >> 31 else value


def judged(boot: str, platform: Platform, load: Callable[[], Loaded]) -> LoaderVerdict:
    """The verdict on what `load` returns or raises."""
    try:
        loaded = load()
    except Stopped as stop:
        return LoaderVerdict(boot, stop.verdict, None, stop.rule, stop.message)
    if loaded.spilt and platform.heap_behind:
        return LoaderVerdict(boot, "crash", None, rules.FILE_OVER_MEMORY, HEAP_BROKEN)
    if loaded.long_mode:
        return LoaderVerdict(boot, "wild", loaded.entry, multiboot_rules.LONG_MODE)
    rule = rules.FILE_OVER_MEMORY if loaded.spilt else ""
    return LoaderVerdict(boot, "accept", None if loaded.moved else loaded.entry, rule)
