"""GRUB's command `multiboot`: a Multiboot 1 kernel, on a PC's BIOS and on 64-bit UEFI.

Follows grub-core/loader/i386/multiboot_mbi.c and loader/multiboot.c of GRUB 2.06 as Debian builds it, up to
the kernel's first instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import multiboot_rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_chunks import EFI64, PC, Chunks, Platform
from bootbuild_loaders.grub_elf import WORD32, GrubElf, Loaded
from bootbuild_loaders.grub_head import Head, not_found
from bootbuild_loaders.grub_loaded import BOTH, Addresses, judged
from bootbuild_loaders.grub_opened import opened
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

REACH, ALIGN, MAGIC = 8192, 4, 0x1BADB002
UNSUPPORTED, VIDEO, ADDRESSES = 0xFFF8, 4, 0x10000  #: bits of the header's flags
LOW_MEMORY = 0x9FC00 - 0x10000 - 0x800  #: bytes for section headers in the information structure


class GrubMultiboot1:
    """`multiboot FILE` in GRUB for a PC's BIOS (i386-pc)."""

    name = "grub-multiboot1"
    version = "2.06"
    evidence = Evidence.ORACLE
    source = "grub-core/loader/{multiboot*.c,i386/multiboot_mbi.c}; held to Debian's GRUB (tests/oracles)"
    platform = PC
    rules = (*BOTH, *only(multiboot_rules.MANY_SECTIONS))

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "multiboot1"."""
        return [judged("multiboot1", self.platform, lambda: _load(content, self.platform))]


class GrubMultiboot1Efi64(GrubMultiboot1):
    """`multiboot FILE` in GRUB for 64-bit UEFI (x86_64-efi)."""

    name = "grub-multiboot1-efi64"
    platform = EFI64


def _load(content: Content, platform: Platform) -> Loaded:
    """grub_multiboot_load, and what its boot adds."""
    window = Window(opened(content))
    head = Head(window, REACH)
    at = next(head.find(MAGIC, ALIGN, 3), None)
    if at is None:
        raise not_found(window, MAGIC)
    flags = head.number(at + 4, 4)
    if flags & UNSUPPORTED:
        raise Stopped(multiboot_rules.UNKNOWN_REQUEST, f"error: unsupported flag: {flags:#x}.")
    chunks = Chunks(platform)
    if flags & ADDRESSES:
        loaded = _load_by_addresses(head, window, chunks, at)
    else:
        loaded = GrubElf(head, window, chunks, REACH, modern=False).load()
    if flags & VIDEO:
        mode = head.number(at + 32, 4)
        if mode not in (0, 1):
            shown = mode - (1 << 32) if mode >> 31 else mode
            raise Stopped(multiboot_rules.SCREEN, f"error: unsupported graphical mode type {shown}.")
    if loaded.sections > LOW_MEMORY:
        raise Stopped(multiboot_rules.MANY_SECTIONS, "")
    chunks.check_boot(in_heap=False)
    return loaded


def _load_by_addresses(head: Head, window: Window, chunks: Chunks, at: int) -> Loaded:
    """The header's own addresses, flag 16."""
    header, load, load_end, bss_end, entry = head.words(at + 12, 5)
    size = load_end - load if load_end else None
    addresses = Addresses(at - (header - load), load, size, bss_end)
    chunks.at(load, addresses.code_size(window) & WORD32 if bss_end else addresses.code_size(window))
    return Loaded(entry, spilt=addresses.read(window, chunks))
