"""What GRUB's commands read of a file: gzip is undone on the way, as GRUB does with module gzio."""

from __future__ import annotations

from bootbuild.api import Content, decompress
from bootbuild_loaders import rules
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import packed

GZIP = b"\x1f\x8b"


def opened(content: Content) -> Content:
    """The file that grub_file_open hands out. Raises Stopped for a gzip that cannot be undone as a whole.

    GRUB unpacks only as far as it reads, so that it may take such a file all the same.
    """
    if content.read(0, 2) != GZIP:
        return content
    try:
        return decompress("gzip", packed(content, 0, content.size))
    except ValueError:
        raise Stopped(rules.NOT_JUDGED, "", "ignore") from None
