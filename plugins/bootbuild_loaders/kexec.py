"""Linux's kexec_file_load: a running kernel takes a bzImage that has a 64-bit entry, for the end of RAM.

Follows arch/x86/kernel/kexec-bzimage64.c and kernel/kexec_file.c of Debian's Linux 6.1, with an empty command
line, for a machine of 512 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import linux_header, linux_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_chunks import align_up
from bootbuild_loaders.linux_header import ABOVE_4G, KERNEL_64, SECTOR
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

PAGE = 4096
MEMORY = 512 << 20  #: bytes; what the first kernel itself takes of it is not known
ADDED = 30  #: MAX_ELFCOREHDR_STR_LEN: characters that must fit behind any command line
HEADER_AT = 0x1F1
LOWEST = 0x100000  #: MIN_KERNEL_LOAD_ADDR; versions since look above pref_address as well
_SAYS = "kexec-bzImage64: "
#: what the system call returns where nothing is said: include/uapi/asm-generic/errno-base.h
EINVAL, EADDRNOTAVAIL = "EINVAL", "EADDRNOTAVAIL"


class Kexec:
    """The system call kexec_file_load, as `kexec --kexec-file-syscall` makes it."""

    name = "kexec"
    version = "6.1"
    evidence = Evidence.ORACLE
    source = "arch/x86/kernel/kexec-bzimage64.c; held to Debian's cloud kernel (tests/oracles)"
    rules = only(
        linux_rules.NO_HEADER,
        linux_rules.OLD_PROTOCOL,
        linux_rules.LOADED_LOW,
        linux_rules.BOOT_FLAG,
        linux_rules.SETUP_OUTSIDE,
        linux_rules.INIT_SIZE,
        linux_rules.HEADER_LENGTH,
        linux_rules.NO_ENTRY_64,
        linux_rules.BELOW_4G,
        linux_rules.CMDLINE_SIZE,
        linux_rules.SHORT,
        linux_rules.KERNEL_ALIGNMENT,
        rules.DOES_NOT_FIT,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "linux"; there is no `entry`, since where the kernel goes depends on the RAM."""
        window = Window(content)
        if linux_header.is_elf(window):
            return []
        try:
            _probe(window)
            _load(window)
        except Stopped as stop:
            return [LoaderVerdict("linux", stop.verdict, None, stop.rule, stop.message)]
        return [LoaderVerdict("linux", "accept")]


def _probe(window: Window) -> None:
    """bzImage64_probe."""
    header = linux_header.read(window)
    for holds, rule, text in (
        (window.size >= 2 * SECTOR, linux_rules.SHORT, "File is too short to be a bzImage"),
        (header.named, linux_rules.NO_HEADER, "Not a bzImage"),
        (header.boot_flag == 0xAA55, linux_rules.BOOT_FLAG, "No x86 boot sector present"),
        (header.version >= 0x20C, linux_rules.OLD_PROTOCOL, "Must be at least protocol version 2.12"),
        (header.high, linux_rules.LOADED_LOW, "zImage not a bzImage"),
        (
            header.xloadflags & KERNEL_64,
            linux_rules.NO_ENTRY_64,
            "Not a bzImage64. XLF_KERNEL_64 is not set.",
        ),
        (
            header.xloadflags & ABOVE_4G,
            linux_rules.BELOW_4G,
            "XLF_CAN_BE_LOADED_ABOVE_4G is not set.",
        ),
    ):
        if not holds:
            raise Stopped(rule, f"{_SAYS}{text}")


def _load(window: Window) -> None:
    """bzImage64_load, and what sanity_check_segment_list finds."""
    header = linux_header.read(window)
    size = window.size - header.setup_size
    if size < 0:
        raise Stopped(linux_rules.SETUP_OUTSIDE, f"{_SAYS}bzImage truncated")
    if header.cmdline_size < ADDED:
        raise Stopped(linux_rules.CMDLINE_SIZE, EINVAL)
    if 0x202 + header.jump < HEADER_AT:
        raise Stopped(linux_rules.HEADER_LENGTH, "(it overwrites its memory)", "crash")
    memory = align_up(header.init_size, PAGE)
    if LOWEST + memory > MEMORY:
        raise Stopped(rules.DOES_NOT_FIT, EADDRNOTAVAIL)
    if max(header.kernel_alignment, PAGE) % PAGE:  # the end of RAM, aligned down, is in the middle of a page
        raise Stopped(linux_rules.KERNEL_ALIGNMENT, EADDRNOTAVAIL)
    if size > memory:
        raise Stopped(linux_rules.INIT_SIZE, EINVAL)
