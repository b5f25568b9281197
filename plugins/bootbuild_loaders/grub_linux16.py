"""GRUB's command `linux16`: a kernel entered in real mode, as a boot loader of the nineties does it.

Follows grub-core/loader/i386/pc/linux.c of GRUB 2.06 as Debian builds it, which only a PC's BIOS has.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import linux_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_chunks import FOUR_GIB, PC, Chunks
from bootbuild_loaders.grub_linux import OLD_CMDLINE, checked, judged
from bootbuild_loaders.grub_loaded import HEAP_BROKEN
from bootbuild_loaders.linux_header import ENTRY_16, HIGH, LOW, REAL_MODE, SECTOR, SetupHeader
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

CMDLINE_OFFSET = 0x9000  #: from the beginning of the real-mode code: GRUB_LINUX_CL_OFFSET
LEAST_CMDLINE = 12  #: bytes that are written whatever there is: LINUX_IMAGE
OLD_SETUP = 5 * SECTOR  #: bytes of real-mode code of a kernel without a header, whatever setup_sects says


class GrubLinux16:
    """`linux16 FILE` in GRUB for a PC's BIOS (i386-pc)."""

    name = "grub-linux16"
    version = "2.06"
    evidence = Evidence.ORACLE
    source = "grub-core/loader/i386/pc/linux.c; held to Debian's GRUB (tests/oracles)"
    rules = only(
        linux_rules.NO_HEADER,
        linux_rules.OLD_PROTOCOL,
        linux_rules.LOADED_LOW,
        linux_rules.BOOT_FLAG,
        linux_rules.SETUP_SECTS,
        linux_rules.SETUP_OUTSIDE,
        linux_rules.CMDLINE_SIZE,
        linux_rules.SHORT,
        linux_rules.LARGE_ZIMAGE,
        rules.DOES_NOT_FIT,
        rules.NOT_JUDGED,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "linux"; `entry` is that of real mode."""
        return judged(content, _load)


def _load(window: Window) -> LoaderVerdict:
    """grub_cmd_linux."""
    header = checked(window)
    known = header.named and header.version >= 0x200
    size = window.size - (header.setup_size if known else OLD_SETUP)
    cmdline = header.cmdline_size + 1 & PC.word if known and header.version >= 0x206 else OLD_CMDLINE
    real = _real_target(cmdline) if known else REAL_MODE
    if size < 0:
        raise Stopped(linux_rules.SETUP_OUTSIDE, "error: overflow is detected.")
    if not header.high and LOW + size > real:
        text = f"error: too big zImage (0x{LOW + size:x} > 0x{real:x}), use bzImage instead."
        raise Stopped(linux_rules.LARGE_ZIMAGE, text)
    chunks = Chunks(PC)
    try:
        chunks.at(real, CMDLINE_OFFSET + cmdline)
        chunks.at(HIGH if header.high else LOW, size)
        chunks.check_boot(in_heap=False)
    except Stopped as stop:
        rule = stop.rule if cmdline <= REAL_MODE else linux_rules.CMDLINE_SIZE
        raise Stopped(rule, stop.message) from None
    if cmdline < LEAST_CMDLINE:
        return LoaderVerdict("linux", "crash", None, linux_rules.CMDLINE_SIZE, HEAP_BROKEN)
    entry = real + ENTRY_16
    rule = misplaced(header)
    return LoaderVerdict("linux", "wild" if rule else "accept", entry, rule)


def _real_target(cmdline: int) -> int:
    """grub_find_real_target: as high below 640 KiB as it may be, which wraps for a huge command line."""
    start, end = PC.ram[0]
    candidate = start + end - start - (CMDLINE_OFFSET + cmdline & FOUR_GIB - 1)
    return REAL_MODE if candidate < 0 else min(candidate, REAL_MODE)


def misplaced(header: SetupHeader) -> str:
    """The rule by which a kernel lies at 0x10000 and was not meant to; "" where it lies well."""
    if not header.named:
        return linux_rules.NO_HEADER
    if header.version < 0x200:
        return linux_rules.OLD_PROTOCOL
    return linux_rules.LOADED_LOW if not header.high and header.code32_start >= HIGH else ""
