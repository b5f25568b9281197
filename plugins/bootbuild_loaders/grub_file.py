"""grub-file: what GRUB's header checks answer, each a question about one boot protocol.

Follows grub-core/commands/file.c of GRUB 2.06; what it asks for Xen's sake is in grub_xen.py. The checks read
headers and notes and know no PVH; no answer says that GRUB would really load the file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.grub_opened import opened
from bootbuild_loaders.grub_xen import LINUX_HEADER, No, xen_arch
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

FALSE = "false"


class GrubFile:
    """`grub-file --is-x86-…`: one verdict for each protocol that it knows questions about."""

    name = "grub-file"
    version = "2.06"
    evidence = Evidence.ORACLE
    source = "grub-core/commands/file.c, loader/i386/xen_file*.c; held to Debian's grub-file (tests/oracles)"
    rules = only(
        rules.NOT_A_KERNEL,
        rules.HEADERS_OUTSIDE,
        rules.MACHINE,
        rules.NO_NOTES,
        rules.LOADER_NOTE,
        rules.SEGMENT_OUTSIDE,
        rules.BZIMAGE,
        rules.PAYLOAD,
        rules.NOT_JUDGED,
        rules.RUNS_OUT,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """Yes is "accept", with the questions in the message."""
        try:
            window = Window(_opened(content))
        except No as no:
            return [_no(boot, no) for boot in ("xen-pv", "multiboot1", "multiboot2", "linux")]
        found = []
        for boot, ask in (
            ("xen-pv", _xen_pv),
            ("multiboot1", _multiboot1),
            ("multiboot2", _multiboot2),
            ("linux", _linux),
        ):
            try:
                found.append(LoaderVerdict(boot, "accept", None, "", ", ".join(ask(window))))
            except No as no:
                found.append(_no(boot, no))
        return found


def _no(boot: str, no: No) -> LoaderVerdict:
    if no.rule == rules.NOT_JUDGED:
        return LoaderVerdict(boot, "ignore", None, no.rule)
    if no.rule == rules.RUNS_OUT:
        return LoaderVerdict(boot, "crash", None, no.rule, "Segmentation fault (SIGSEGV)")
    return LoaderVerdict(boot, "refuse", None, no.rule, FALSE)


def _opened(content: Content) -> Content:
    """grub_file_open: gzip, xz and lzop are undone on the way."""
    if content.read(0, 6) == b"\xfd7zXZ\0" or content.read(0, 4) == b"\x89LZO":
        raise No(rules.NOT_JUDGED)
    try:
        return opened(content)
    except Stopped as stop:
        raise No(stop.rule) from None


def _multiboot1(window: Window) -> list[str]:
    if not _has_header(window, 0x1BADB002, 8192, 3, 4):
        raise No(rules.NOT_A_KERNEL)
    return ["--is-x86-multiboot"]


def _multiboot2(window: Window) -> list[str]:
    if not _has_header(window, 0xE85250D6, 32768, 4, 8):
        raise No(rules.NOT_A_KERNEL)
    return ["--is-x86-multiboot2"]


def _has_header(window: Window, magic: int, reach: int, words: int, align: int) -> bool:
    """Whether the first `reach` bytes hold a header whose `words` words add up to 0."""
    head = window.get(0, reach)
    at = head.find(magic.to_bytes(4, "little")) if len(head) >= 32 else -1
    while 0 <= at <= len(head) - 4 * words:
        if at % align == 0 and not sum(struct.unpack_from(f"<{words}I", head, at)) & 0xFFFFFFFF:
            return True
        at = head.find(magic.to_bytes(4, "little"), at + 1)
    return False


def _linux(window: Window) -> list[str]:
    if window.size < LINUX_HEADER or window.get(0x1FE, 2) != b"\x55\xaa":
        raise No(rules.NOT_A_KERNEL)
    version = window.u16(0x206)
    if window.get(0x202, 4) != b"HdrS" or version < 0x200 or window.get(0x1F1, 1)[0] > 64:
        raise No(rules.BZIMAGE)
    answers = ["--is-x86-linux"]
    if version >= 0x203 and window.get(0x211, 1)[0] & 1:
        answers.append("--is-x86-linux32")
    return answers


def _xen_pv(window: Window) -> list[str]:
    arch = xen_arch(window)
    answers = ["--is-x86-xen-dom0"]
    if arch == "x86_64":
        answers.append("--is-x86_64-xen-domu")
    if arch == "i386_pae":
        answers.append("--is-i386-xen-pae-domu")
    return answers
