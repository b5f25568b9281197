"""A raw kernel: bytes without headers, which the recipe gives addresses."""

from __future__ import annotations

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.formats.elf_fresh import PAGE, Part, fresh
from bootbuild.model.content import Content
from bootbuild.model.payload import PF_R, PF_W, PF_X, PT_LOAD, ElfImage, Segment

LIMIT = 1 << 32  #: every loader puts kernels below 4 GiB


def read_raw(content: Content, name: str, load: int, entry: int | None, bss: int, width: int) -> ElfImage:
    """The ELF image of a flat binary that is loaded, and runs, at physical `load` (bytes, as all here).

    `entry` (default: `load`) is where it starts, `bss` how many zeros it expects behind its bytes.
    Raises InputError (BB-E042) for an empty file, addresses above 4 GiB, or an entry outside the bytes.
    """
    entry = load if entry is None else entry
    if not content.size:
        raise InputError(Problem(rules.RAW, name, "the file is empty"))
    if load + content.size + bss > LIMIT:
        text = f"{content.size:#x} bytes at {load:#x}, and {bss:#x} bytes of zeros, end above 4 GiB"
        raise InputError(Problem(rules.RAW, name, text))
    if not load <= entry < load + content.size:
        text = f"entry {entry:#x} is outside the bytes, {load:#x} to {load + content.size:#x}"
        raise InputError(Problem(rules.RAW, name, text))
    segment = Segment(PT_LOAD, PF_R | PF_W | PF_X, 0, load, load, content.size, content.size + bss, PAGE)
    return fresh(width, entry, [Part(segment, content, 0)], name)
