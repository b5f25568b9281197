"""An assembled stub: position-dependent code that is not yet placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FixupKind = Literal["abs32", "abs32s", "abs64", "pc32"]
Section = Literal[".text", ".bss"]


@dataclass(frozen=True)
class Fixup:
    """`kind` of value to be written at `offset` of the text: address of `symbol` plus `addend`.

    `abs32` is zero-extended by the CPU, `abs32s` sign-extended (R_X86_64_32 and _32S); `pc32` is relative
    to the place of the fixup itself, as in the psABI's R_X86_64_PC32.
    The symbols `.text` and `.bss` are the blob's own sections.
    """

    offset: int
    kind: FixupKind
    symbol: str
    addend: int


@dataclass(frozen=True)
class Blob:
    """Machine code with what must still be filled in. Built by `python -m bootbuild.stubs build`."""

    name: str
    width: int  #: 32 or 64, of the code at its entry
    text: bytes  #: code and constants, mapped read-execute
    align: int  #: of `text`, bytes, a power of two
    bss_size: int  #: zeroed by the stub itself, mapped read-write
    bss_align: int
    fixups: tuple[Fixup, ...]
    exports: Mapping[str, tuple[Section, int]]
    toolchain: str  #: what assembled it
    sources: str = ""  #: SHA-256 of what it was assembled from (`stubs/sources.py`); none for a table of data
