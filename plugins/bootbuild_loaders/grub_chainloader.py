"""GRUB's command `chainloader` on 64-bit UEFI: it reads the file, and lets the firmware load it.

Follows grub-core/loader/efi/chainloader.c of GRUB 2.06 as Debian builds it, without Secure Boot.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Content, LoaderVerdict, part_of
from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.edk2 import Edk2, judged, load, start
from bootbuild_loaders.grub_opened import opened
from bootbuild_loaders.pe_status import OUT_OF_RESOURCES
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

#: of Apple's files for several machines, and bytes of what begins and lists them: include/grub/macho.h
FAT_MAGIC, FAT_HEADER, FAT_ARCH = b"\xb9\xfa\xf1\x0e", 8, 20
CPU_X86_64 = 0x01000007
CUT = "error: premature end of file"
_WORDS = {OUT_OF_RESOURCES: "error: out of resources."}


class GrubChainloader:
    """`chainloader FILE`, in firmware as model edk2 knows it. Not a boot option: it starts drivers, too."""

    name = "grub-chainloader"
    version = "2.06"
    evidence = Edk2.evidence
    source = "grub-core/loader/efi/chainloader.c; held to Debian's GRUB in OVMF (tests/oracles)"
    rules = Edk2.rules

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "efi"."""
        return judged(content, lambda: _load(content))


def _load(content: Content) -> str:
    """grub_cmd_chainloader, grub_chainloader_boot."""
    content = opened(content)
    if not content.size:
        raise Stopped(pe_rules.NOT_PE, CUT)
    window = Window(_thin(content))
    try:
        headers = load(window, boot_option=False)
    except Stopped as stop:
        if stop.verdict != "refuse":
            raise
        words = _WORDS.get(stop.message, "error: cannot load image.")
        raise Stopped(stop.rule, words) from None
    try:
        return start(headers)
    except Stopped as stop:
        if stop.verdict != "refuse":
            raise
        raise Stopped(stop.rule, "error: unknown error.") from None


def _thin(content: Content) -> Content:
    """What is for this machine of Apple's files for several; any other file as it is. Raises Stopped."""
    window = Window(content)
    if window.get(0, 4) != FAT_MAGIC or window.size < FAT_HEADER:
        return content
    for number in range(window.u32(4)):
        raw = window.get(FAT_HEADER + FAT_ARCH * number, FAT_ARCH)
        if len(raw) < FAT_ARCH or not window.another():  # the list goes on in whatever is in memory
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        machine, _, offset, size, _ = struct.unpack("<5I", raw)
        if machine == CPU_X86_64:
            if offset + size > window.size:
                raise Stopped(pe_rules.TRUNCATED, CUT)
            return part_of(content, offset, size)
    raise Stopped(pe_rules.MACHINE, "error: no compatible arch found.")
