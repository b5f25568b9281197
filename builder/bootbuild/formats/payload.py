"""Opening a kernel, whatever it is packed in."""

from __future__ import annotations

import stat
from pathlib import Path

from bootbuild.errors import InputError, Problem
from bootbuild.formats import bzimage, rules
from bootbuild.formats.elf_read import MAGIC, read_elf
from bootbuild.model.content import Content, FileContent, digest
from bootbuild.model.payload import ElfImage


def open_content(path: Path) -> FileContent:
    """A regular file's content. Raises InputError (BB-E031); never waits on a pipe or a device."""
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            what = "a directory" if stat.S_ISDIR(kind) else "not a regular file"
            raise InputError(Problem(rules.UNREADABLE, str(path), what))
        return FileContent(path)
    except (OSError, ValueError) as error:
        text = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(Problem(rules.UNREADABLE, str(path), text)) from None


def read_payload(content: Content, name: str) -> tuple[ElfImage, str]:
    """The kernel in a file, and what that file was: "elf", "bzimage (lz4)" … Raises InputError."""
    if content.read(0, 4) == MAGIC:
        return read_elf(content, name), "elf"
    if bzimage.is_bzimage(content):
        unpacked, compression = bzimage.unpack(content, name)
        return read_elf(unpacked, f"{name} (vmlinux)"), f"bzimage ({compression})"
    start = content.read(0, 8).hex(" ") or "nothing"
    raise InputError(Problem(rules.UNKNOWN_FORMAT, name, f"begins with {start}"))


def open_payload(path: Path) -> tuple[ElfImage, str, str]:
    """The kernel at `path`, what the file was, and the SHA-256 of that file in hex.

    Raises InputError: BB-E030, BB-E031, and those of `read_elf` and `bzimage.unpack`.
    """
    content = open_content(path)
    elf, kind = read_payload(content, str(path))
    return elf, kind, digest(content)
