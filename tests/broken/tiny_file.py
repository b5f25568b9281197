"""The ELF file of a guest in machine code, of either class: one PT_LOAD and one PT_NOTE."""

from __future__ import annotations

import struct
from dataclasses import dataclass

OFFSET = 0x1000  #: in the file, of the PT_LOAD
_NOTES = 0x200  #: in the file, of the PT_NOTE


@dataclass(frozen=True)
class Load:
    """The PT_LOAD, readable, writable and executable."""

    vaddr: int
    paddr: int
    data: bytes
    memsz: int
    align: int


def elf_file(bits: int, entry: int, load: Load, notes: bytes) -> bytes:
    """The file, whose e_entry is `entry`; ELF32 has the low half of `load.vaddr`."""
    wide = bits == 64
    header = struct.pack(
        "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH",
        b"\x7fELF" + bytes([2 if wide else 1, 1, 1]), 2, 62 if wide else 3, 1, entry,
        64 if wide else 52, 0, 0, 64 if wide else 52, 56 if wide else 32, 2, 64 if wide else 40, 0, 0,
    )  # fmt: skip

    def segment(kind: int, flags: int, offset: int, vaddr: int, paddr: int, *sizes: int) -> bytes:
        filesz, memsz, align = sizes
        if wide:
            return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, paddr, filesz, memsz, align)
        return struct.pack("<8I", kind, offset, vaddr & 0xFFFFFFFF, paddr, filesz, memsz, flags, align)

    loaded = segment(1, 7, OFFSET, load.vaddr, load.paddr, len(load.data), load.memsz, load.align)
    noted = segment(4, 4, _NOTES, 0, 0, len(notes), len(notes), 4)
    head = (header + loaded + noted).ljust(_NOTES, b"\0") + notes
    return head.ljust(OFFSET, b"\0") + load.data
