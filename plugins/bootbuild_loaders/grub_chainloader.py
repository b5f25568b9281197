"""GRUB's command `chainloader` on 64-bit UEFI: it reads the file, and lets the firmware load it.

Follows grub-core/loader/efi/chainloader.c of GRUB 2.06 as Debian builds it, without Secure Boot.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, LoaderVerdict
from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.edk2 import Edk2, judged, load, start
from bootbuild_loaders.grub_opened import opened
from bootbuild_loaders.pe_status import OUT_OF_RESOURCES
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

#: of Apple's files for two machines, and bytes up to its list of them: include/grub/macho.h
FAT_MAGIC, FAT_HEADER = b"\xb9\xfa\xf1\x0e", 8
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
    window = Window(opened(content))
    if not window.size:
        raise Stopped(pe_rules.NOT_PE, "error: premature end of file")
    if window.get(0, 4) == FAT_MAGIC and window.size >= FAT_HEADER:
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
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
