"""libxenguest's loader for bzImages, asked alone: `xl` comes to it for a file that begins as no ELF does.

Follows tools/libs/guest/xg_dom_bzimageloader.c of Xen 4.17.7 as Debian builds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, LoaderVerdict
from bootbuild_loaders import rules
from bootbuild_loaders.linux_header import read
from bootbuild_loaders.window import Window
from bootbuild_loaders.xen_xl import XenXl


class XenBzimage(XenXl):
    """The kernel in a bzImage, which is unpacked and started as PVH or PV, never by Linux's protocol."""

    name = "xen-bzimage"
    rules = tuple(rule for rule in XenXl.rules if rule.id != rules.HVM_GENERIC)

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """Both types of domain, of a file with a setup header."""
        window = Window(content)
        if window.get(0, 4) == b"\x7fELF" or not read(window).named:
            return []
        return super().judge(content)
