"""QEMU's -kernel for Linux: a bzImage entered in real mode by the option ROM linuxboot.

Follows x86_load_linux in hw/i386/x86.c of QEMU 7.2.22, which takes nearly everything: what is neither
Multiboot nor ELF is a kernel to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import linux_rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_linux16 import misplaced
from bootbuild_loaders.linux_header import ENTRY_16, LOW_SIZE, REAL_MODE, is_elf, read
from bootbuild_loaders.qemu import find_multiboot
from bootbuild_loaders.window import Window

NEAR = 0x10000  #: where the real-mode code of a recent kernel goes


class QemuLinux:
    """`qemu-system-x86_64 -kernel FILE` of a file that is neither an ELF nor a Multiboot kernel."""

    name = "qemu-linux"
    version = "7.2.22"
    evidence = Evidence.ORACLE
    source = "hw/i386/x86.c; held to Debian's QEMU (tests/oracles)"
    rules = only(
        linux_rules.NO_HEADER,
        linux_rules.OLD_PROTOCOL,
        linux_rules.LOADED_LOW,
        linux_rules.SETUP_OUTSIDE,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "linux"; `entry` is that of real mode. Nothing about what model `qemu` judges."""
        window = Window(content)
        header = read(window)
        if is_elf(window) or not (header.named or find_multiboot(window) is None):
            return []
        if not content.size:
            return [
                LoaderVerdict("linux", "refuse", None, linux_rules.NO_HEADER, "qemu: could not load kernel")
            ]
        size = window.size - header.setup_size
        if size < 0:
            text = "qemu: invalid kernel header"
            return [LoaderVerdict("linux", "refuse", None, linux_rules.SETUP_OUTSIDE, text)]
        rule = misplaced(header)
        if not header.high and size > LOW_SIZE:
            rule = rule or linux_rules.LOADED_LOW
        entry = (NEAR if header.high and header.version >= 0x202 else REAL_MODE) + ENTRY_16
        return [LoaderVerdict("linux", "wild" if rule else "accept", entry, rule)]
