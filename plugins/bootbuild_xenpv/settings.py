"""What the stubs are told of the notes that were written, and the pages that go with these: no code."""

from __future__ import annotations

import struct

from bootbuild.api import Blob
from bootbuild_xenpv.notes import PAGE

HYPERCALL_PAGE = "bb_pv_hypercall_page"
TABLE_SPAN = 512 * PAGE  #: bytes that a page table of level 1 maps
_SETTINGS = struct.Struct("<QQQ")  #: struct pv_settings of stubs/xen.h


def settings(*, paddr_offset: int = 0, hypercalls: bool = False, unmapped: int | None = None) -> Blob:
    """A companion of the stubs. `hypercalls`: with a page that Xen fills, of INT3 until then.

    `unmapped`: bytes of a module that the front has to map; None if Xen does. It is given page tables for a
    module that begins anywhere and is a table's span longer: xl counts whole pages, and files grow.
    """
    tables = 0 if unmapped is None else unmapped // TABLE_SPAN + 3
    text = _SETTINGS.pack(paddr_offset, hypercalls, tables)
    page = 0
    if hypercalls:
        page = PAGE
        text = text.ljust(PAGE, b"\0") + b"\xcc" * PAGE
    return Blob(
        name="xenpv_settings",
        width=64,
        text=text,
        align=PAGE if hypercalls else 8,
        bss_size=tables * PAGE,
        bss_align=PAGE if tables else 8,
        fixups=(),
        exports={
            "bb_pv_settings": (".text", 0),
            HYPERCALL_PAGE: (".text", page),
            "bb_pv_tables": (".bss", 0),
        },
        toolchain="",
    )
