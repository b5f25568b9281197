"""GRUB's command `linux`, on a PC's BIOS and on 64-bit UEFI: a bzImage entered in 32-bit mode.

Follows grub-core/loader/i386/linux.c of GRUB 2.06 as Debian builds it, without Secure Boot, up to the
kernel's first instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import linux_header, linux_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_chunks import EFI64, FOUR_GIB, OUT_OF_MEMORY, PC, Chunks, Platform, align_up
from bootbuild_loaders.grub_loaded import HEAP_BROKEN
from bootbuild_loaders.grub_opened import opened
from bootbuild_loaders.linux_header import SetupHeader
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

HEADER = 0x268  #: sizeof (struct linux_i386_kernel_header)
HEADER_AT = 0x1F1  #: what is copied of it into boot_params begins here
MAX_SETUP_SECTS = 64
BOOT_FLAG = 0xAA55
LOWEST = 0x1000000  #: where another place is looked for when pref_address is taken
PAGE, PARAMS = 0x1000, 0x1000  #: bytes; sizeof (struct linux_kernel_params)
MAP = 2 * PAGE  #: find_mmap_size: a page more than the map has, and that is less than one
LOW_MEMORY = 0x10000, 0x90000  #: where boot_params and the command line lie
LEAST_CMDLINE, OLD_CMDLINE = 128, 256
PREMATURE = "error: premature end of file"


class GrubLinux:
    """`linux FILE` in GRUB for a PC's BIOS (i386-pc)."""

    name = "grub-linux"
    version = "2.06"
    evidence = Evidence.ORACLE
    source = "grub-core/loader/i386/linux.c; held to Debian's GRUB (tests/oracles)"
    platform = PC
    rules = only(
        linux_rules.NO_HEADER,
        linux_rules.OLD_PROTOCOL,
        linux_rules.LOADED_LOW,
        linux_rules.BOOT_FLAG,
        linux_rules.SETUP_SECTS,
        linux_rules.SETUP_OUTSIDE,
        linux_rules.INIT_SIZE,
        linux_rules.CODE32_START,
        linux_rules.HEADER_LENGTH,
        linux_rules.CMDLINE_SIZE,
        linux_rules.SHORT,
        linux_rules.PREF_ADDRESS,
        rules.DOES_NOT_FIT,
        rules.NOT_JUDGED,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "linux"; `entry` is that of 32-bit mode, None where GRUB chooses the place."""
        return judged(content, lambda window: _load(window, self.platform))


class GrubLinuxEfi64(GrubLinux):
    """`linux FILE` in GRUB for 64-bit UEFI (x86_64-efi)."""

    name = "grub-linux-efi64"
    platform = EFI64
    rules = tuple(rule for rule in GrubLinux.rules if rule.id != linux_rules.PREF_ADDRESS)


def judged(content: Content, load: Callable[[Window], LoaderVerdict]) -> Sequence[LoaderVerdict]:
    """What `load` returns of the file, or raises; nothing about an ELF."""
    try:
        window = Window(opened(content))
        if linux_header.is_elf(window):
            return []
        return [load(window)]
    except Stopped as stop:
        return [LoaderVerdict("linux", stop.verdict, None, stop.rule, stop.message)]


def checked(window: Window) -> SetupHeader:
    """What `linux` and `linux16` look at first. Raises Stopped."""
    header = linux_header.read(window)
    if window.size < HEADER:
        raise Stopped(linux_rules.SHORT, PREMATURE)
    if header.boot_flag != BOOT_FLAG:
        raise Stopped(linux_rules.BOOT_FLAG, "error: invalid magic number.")
    if header.setup_sects > MAX_SETUP_SECTS:
        raise Stopped(linux_rules.SETUP_SECTS, "error: too many setup sectors.")
    return header


@dataclass(frozen=True)
class _Place:
    """Where the protected-mode code goes; None where GRUB chooses."""

    address: int | None
    size: int


def _load(window: Window, platform: Platform) -> LoaderVerdict:
    """grub_cmd_linux, and what of grub_linux_boot can fail."""
    header = checked(window)
    advice = "" if platform.efi else " (try with `linux16')"
    if not header.named or header.version < 0x203:
        rule = linux_rules.OLD_PROTOCOL if header.named else linux_rules.NO_HEADER
        raise Stopped(rule, f"error: version too old for 32-bit boot{advice}.")
    if not header.high:
        raise Stopped(linux_rules.LOADED_LOW, f"error: zImage doesn't support 32-bit boot{advice}.")
    chunks = Chunks(platform)
    file_size = window.size - header.setup_size
    place = _place(header, file_size, chunks)
    _check_rest(window, header)
    cmdline = _cmdline_size(header, platform)
    if file_size < 0:
        raise Stopped(linux_rules.SETUP_OUTSIDE, "error: attempt to seek outside of the file.")
    if chunks.spills(0, place.size, file_size) and platform.heap_behind:
        return LoaderVerdict("linux", "crash", None, linux_rules.INIT_SIZE, HEAP_BROKEN)
    _check_low_memory(header, cmdline, chunks)
    spilt = chunks.spills(0, place.size, file_size)
    offset = header.code32_start - linux_header.HIGH
    entry = None if place.address is None else place.address + offset & FOUR_GIB - 1
    if place.address not in (None, header.pref_address, linux_header.HIGH):
        return LoaderVerdict("linux", "wild", entry, linux_rules.PREF_ADDRESS)
    if not 0 <= offset < file_size:
        rule = linux_rules.CODE32_START if file_size else linux_rules.SETUP_OUTSIDE
        return LoaderVerdict("linux", "wild", entry, rule)
    return LoaderVerdict("linux", "accept", entry, linux_rules.INIT_SIZE if spilt else "")


def _place(header: SetupHeader, file_size: int, chunks: Chunks) -> _Place:
    """allocate_pages. Raises Stopped."""
    align, relocatable, preferred = 0, False, linux_header.HIGH
    alignment = header.kernel_alignment
    if header.version >= 0x205 and alignment and not alignment & alignment - 1:
        align, relocatable = alignment.bit_length() - 1, header.relocatable
    least = align
    size = file_size
    if header.version >= 0x20A:
        least, size = header.min_alignment, header.init_size
        preferred = header.pref_address if relocatable else preferred
    size = align_up(size or 1, PAGE) & chunks.platform.word
    if not size:
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
    if not relocatable:
        chunks.at(preferred, size)
        return _Place(preferred, size)
    try:
        near = preferred & chunks.platform.word
        chunks.anywhere(size, 1, near, near + size)
        return _Place(None if chunks.platform.efi else near, size)
    except Stopped as stop:
        failed = stop
    while align + 1 > least and align >= 0:
        try:
            chunks.anywhere(size, 1 << align, LOWEST, FOUR_GIB)
            return _Place(None, size)
        except Stopped as stop:
            failed = stop
        align -= 1
    raise failed


def _check_rest(window: Window, header: SetupHeader) -> None:
    """The copy of the header into boot_params: up to where it says that it ends."""
    end = 0x202 + header.jump
    if end < HEADER_AT:
        raise Stopped(linux_rules.HEADER_LENGTH, "(it overwrites its memory)", "crash")
    if end > window.size:
        raise Stopped(linux_rules.HEADER_LENGTH, PREMATURE)


def _cmdline_size(header: SetupHeader, platform: Platform) -> int:
    """Bytes for the command line, its NUL included. Raises Stopped."""
    size = header.cmdline_size + 1 & platform.word if header.version >= 0x206 else OLD_CMDLINE
    size = max(size, LEAST_CMDLINE)
    if size > platform.room:
        raise Stopped(linux_rules.CMDLINE_SIZE, OUT_OF_MEMORY)
    return size


def _check_low_memory(header: SetupHeader, cmdline: int, chunks: Chunks) -> None:
    """grub_linux_boot: boot_params, the memory map and the command line. Raises Stopped."""
    offset = align_up(max(MAP + PARAMS, header.setup_sects * linux_header.SECTOR), PAGE)
    size = align_up(offset + cmdline, PAGE)
    start, end = LOW_MEMORY
    if size > end - start:
        raise Stopped(linux_rules.CMDLINE_SIZE, "error: cannot allocate real mode pages.")
    chunks.at(end - size, size)
    chunks.check_boot(in_heap=False)
