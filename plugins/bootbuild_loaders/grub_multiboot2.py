"""GRUB's command `multiboot2`: a Multiboot 2 kernel, on a PC's BIOS and on 64-bit UEFI.

Follows grub-core/loader/multiboot_mbi2.c and loader/multiboot.c of GRUB 2.06 as Debian builds it, up to the
kernel's first instruction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import multiboot_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_chunks import EFI64, PC, Chunks, Platform
from bootbuild_loaders.grub_elf import WORD32, GrubElf, Loaded, Range
from bootbuild_loaders.grub_head import Head, not_found
from bootbuild_loaders.grub_loaded import BOTH, Addresses, judged
from bootbuild_loaders.grub_opened import opened
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

REACH, ALIGN, MAGIC, ARCHITECTURE_I386, HEADER = 32768, 8, 0xE85250D6, 0, 16
OPTIONAL = 1  #: bit of a tag's flags
INFORMATION, ADDRESS, ENTRY, CONSOLE, FRAMEBUFFER, MODULE_ALIGN, BOOT_SERVICES = range(1, 8)
ENTRY_EFI64, RELOCATABLE = 9, 10
KNOWN_INFORMATION = frozenset(range(22)) - {13}  #: all tags but the SMBIOS tables
REQUIRED, EGA_TEXT = 1, 2  #: bits of the console tag


class GrubMultiboot2:
    """`multiboot2 FILE` in GRUB for a PC's BIOS (i386-pc)."""

    name = "grub-multiboot2"
    version = "2.06"
    evidence = Evidence.ORACLE
    source = "grub-core/loader/multiboot*.c; held to Debian's GRUB (tests/oracles)"
    platform = PC
    rules = (
        *BOTH,
        *only(
            rules.RUNS_OUT,
            multiboot_rules.ENTRY_TAG,
            multiboot_rules.RELOCATIONS,
            multiboot_rules.RELOCATABLE_RANGE,
        ),
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "multiboot2"."""
        return [judged("multiboot2", self.platform, lambda: _load(content, self.platform))]


class GrubMultiboot2Efi64(GrubMultiboot2):
    """`multiboot2 FILE` in GRUB for 64-bit UEFI (x86_64-efi)."""

    name = "grub-multiboot2-efi64"
    platform = EFI64
    rules = (*GrubMultiboot2.rules, *only(multiboot_rules.LONG_MODE))


@dataclass(frozen=True)
class Tags:
    """What a header asks for. Addresses are as the tags have them."""

    addresses: tuple[int, ...] = ()  #: header, load, load_end, bss_end
    entry: int | None = None
    efi_entry: int | None = None
    boot_services: bool = False
    moved: Range | None = None
    ega_text: bool = True
    framebuffer: bool = False
    console_required: bool = False

    def asked(self, console: int) -> Tags:
        """With the bits of one more console tag."""
        return replace(
            self,
            ega_text=self.ega_text and bool(console & EGA_TEXT),
            console_required=self.console_required or bool(console & REQUIRED),
        )


def _load(content: Content, platform: Platform) -> Loaded:
    """grub_multiboot2_load."""
    window = Window(opened(content))
    head = Head(window, REACH)
    at = _find(head)
    if at is None:
        raise not_found(window, MAGIC)
    tags = _read_tags(head, at + HEADER, platform)
    efi_entry = tags.efi_entry if tags.boot_services else None
    chunks = Chunks(platform)
    if tags.addresses:
        if tags.entry is None and efi_entry is None:
            raise Stopped(multiboot_rules.ENTRY_TAG, "error: load address tag without entry address tag.")
        loaded = _load_by_addresses(window, chunks, at, tags)
    else:
        loaded = GrubElf(head, window, chunks, REACH, modern=True).load(tags.moved)
    if efi_entry is not None:
        loaded = replace(loaded, entry=efi_entry)
    elif tags.entry is not None:
        loaded = replace(loaded, entry=tags.entry)
    screen = tags.framebuffer or (tags.ega_text and platform.vga_text)
    if tags.console_required and not screen:
        raise Stopped(multiboot_rules.SCREEN, "error: OS requires a console but none is available.")
    chunks.check_boot(in_heap=True)
    return replace(loaded, moved=tags.moved is not None, long_mode=tags.boot_services and efi_entry is None)


def _find(head: Head) -> int | None:
    """The first header whose sum is right and that is for i386."""
    for at in head.find(MAGIC, ALIGN, 4):
        if head.number(at + 4, 4) == ARCHITECTURE_I386:
            return at
    return None


def _walk(head: Head, at: int) -> Iterator[tuple[int, int, int, int]]:
    """Offset, type, flags and size of each tag up to the one that ends them.

    How long the header says that it is, nobody looks at.
    """
    while kind := head.number(at, 2):
        size = head.number(at + 4, 4)
        yield at, kind, head.number(at + 2, 2), size
        step = size + 7 & WORD32 & ~7
        if not step:
            raise Stopped(rules.RUNS_OUT, "(it reads the same tag without end)", "crash")
        at += step


def _read_tags(head: Head, first: int, platform: Platform) -> Tags:
    tags = Tags()
    for at, kind, flags, size in _walk(head, first):
        if kind == INFORMATION:
            if not flags & OPTIONAL:
                _check_information(head, at, size, platform)
        elif kind == ADDRESS:
            tags = replace(tags, addresses=head.words(at + 8, 4))
        elif kind == ENTRY:
            tags = replace(tags, entry=head.number(at + 8, 4))
        elif kind == ENTRY_EFI64:
            tags = replace(tags, efi_entry=head.number(at + 8, 4) if platform.efi else None)
        elif kind == CONSOLE:
            tags = tags.asked(head.number(at + 8, 4))
        elif kind == FRAMEBUFFER:
            tags = replace(tags, framebuffer=True)
        elif kind == RELOCATABLE:
            tags = replace(tags, moved=Range(*head.words(at + 8, 3)))
        elif kind == BOOT_SERVICES:
            tags = replace(tags, boot_services=platform.efi)
        elif kind != MODULE_ALIGN and not flags & OPTIONAL:
            raise Stopped(multiboot_rules.UNKNOWN_REQUEST, f"error: unsupported tag: {kind:#x}.")
    return tags


def _check_information(head: Head, at: int, size: int, platform: Platform) -> None:
    """A required information request; of a size below 8 it reads on until something is unknown."""
    count = (size - 8 & platform.word) // 4
    for index in range(count):
        asked = head.number(at + 8 + 4 * index, 4)
        if asked not in KNOWN_INFORMATION:
            raise Stopped(multiboot_rules.UNKNOWN_REQUEST, f"error: unsupported information tag: {asked:#x}.")


def _load_by_addresses(window: Window, chunks: Chunks, at: int, tags: Tags) -> Loaded:
    """The address tag; a load_addr of -1 is where the file begins."""
    header, load, load_end, bss_end = tags.addresses
    start = header - at & (1 << 64) - 1 if load == WORD32 else load
    size = load_end - load if load_end else None  # with a load_addr of -1, too
    addresses = Addresses(at - (header - start), start, size, bss_end)
    code_size = addresses.code_size(window)
    if tags.moved is not None:
        tags.moved.place(chunks, code_size & chunks.platform.word)
    else:
        chunks.at(start, code_size)
    return Loaded(0, spilt=addresses.read(window, chunks))
