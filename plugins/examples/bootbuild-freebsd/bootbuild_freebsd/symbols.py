"""`python -m bootbuild_freebsd.symbols KERNEL FILE`: a kernel's symbol tables, as FreeBSD's loader has them.

As a module of type `symbols` they are what the kernel's debugger shows names by: u64 size, .symtab, padding
to 8, u64 size, .strtab, padding to 8 (stand/common/load_elf.c).
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

SHT_SYMTAB = 2
_EHDR = struct.Struct("<4s36xQ10x3H")  #: Elf64_Ehdr: magic, e_shoff, e_shentsize, e_shnum, e_shstrndx
_SHDR = struct.Struct("<4xI16xQQI20x")  #: Elf64_Shdr: sh_type, sh_offset, sh_size, sh_link


def symbol_tables(kernel: bytes) -> bytes:
    """The two tables of an ELF64 file. Raises ValueError if it has none."""
    if len(kernel) < 64 or kernel[:5] != b"\x7fELF\x02":
        raise ValueError("not an ELF64 file")
    _, table, entry_size, count, _ = _EHDR.unpack_from(kernel)
    sections = [_SHDR.unpack_from(kernel, table + row * entry_size) for row in range(count)]
    found = next((section for section in sections if section[0] == SHT_SYMTAB), None)
    if found is None:
        raise ValueError("it has no .symtab: it is stripped")
    tables = b""
    for _, offset, size, _ in (found, sections[found[3]]):
        tables += struct.pack("<Q", size) + kernel[offset : offset + size] + bytes(-size % 8)
    return tables


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(symbol_tables(Path(sys.argv[1]).read_bytes()))
