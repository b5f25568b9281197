"""A tiny valid ELF kernel, made by structs of its own, of which tests break one thing at a time."""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass, field
from typing import Any

EHDR = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}
EHDR_FIELDS = (
    "e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum "
    "e_shentsize e_shnum e_shstrndx"
).split()
PHDR = {32: "<IIIIIIII", 64: "<IIQQQQQQ"}
PHDR_FIELDS = {
    32: "p_type p_offset p_vaddr p_paddr p_filesz p_memsz p_flags p_align".split(),
    64: "p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align".split(),
}
SHDR = {32: "<IIIIIIIIII", 64: "<IIQQQQIIQQ"}
SHDR_FIELDS = (
    "sh_name sh_type sh_flags sh_addr sh_offset sh_size sh_link sh_info sh_addralign sh_entsize".split()
)
HIGH = {32: 0xC0000000, 64: 0xFFFFFFFF80000000}


def note(owner: bytes, type_: int, desc: bytes, align: int = 4) -> bytes:
    """One note, `owner` with its NUL."""
    out = struct.pack("<III", len(owner), len(desc), type_) + owner
    out += bytes(-len(out) % align) + desc
    return out + bytes(-len(out) % align)


@dataclass
class TinyElf:
    """Headers as dictionaries, contents by offset; nothing is checked, so that everything can be broken."""

    bits: int
    ident: bytearray
    ehdr: dict[str, int]
    phdrs: list[dict[str, int]]
    shdrs: list[dict[str, int]]
    parts: dict[int, bytes] = field(default_factory=dict)

    def __bytes__(self) -> bytes:
        out = bytearray(max(at + len(data) for at, data in self.parts.items()))
        for at, data in self.parts.items():
            out[at : at + len(data)] = data
        bits = self.bits
        head = bytes(self.ident) + struct.pack(EHDR[bits], *(self.ehdr[f] for f in EHDR_FIELDS))
        out[: len(head)] = head
        for index, phdr in enumerate(self.phdrs):
            raw = struct.pack(PHDR[bits], *(phdr[f] for f in PHDR_FIELDS[bits]))
            out[len(head) + index * len(raw) : len(head) + (index + 1) * len(raw)] = raw
        table = b"".join(struct.pack(SHDR[bits], *(s[f] for f in SHDR_FIELDS)) for s in self.shdrs)
        return bytes(out) + table

    def copy(self) -> TinyElf:
        """One to break, apart from this."""
        return copy.deepcopy(self)

    def notes(self, data: bytes, align: int = 4) -> None:
        """Replace the contents of the PT_NOTE; up to 0x140 bytes have room."""
        assert len(data) <= 0x140
        self.parts[0x400] = data
        self.phdrs[2] |= {"p_filesz": len(data), "p_memsz": len(data), "p_align": align}


def symbol(bits: int, name: int, value: int, info: int, section: int) -> bytes:
    """One Elf32_Sym or Elf64_Sym of size 0."""
    if bits == 64:
        return struct.pack("<IBBHQQ", name, info, 0, section, value, 0)
    return struct.pack("<IIIBBH", name, value, 0, info, 0, section)


def make(bits: int) -> TinyElf:
    """Two PT_LOADs (code, and data with .bss), a PT_NOTE, a symbol table; linked high, loaded at 1 MiB."""
    high = HIGH[bits]
    size = {32: 52, 64: 64}[bits]
    strings = b"\0startup_64\0local\0twice\0\xff\xfe\0"
    symbols = (
        symbol(bits, 0, 0, 0, 0)
        + symbol(bits, 1, high + 0x100000, 0x12, 1)  # global function
        + symbol(bits, 12, high + 0x100008, 0x00, 1)  # local
        + symbol(bits, 18, high + 0x100010, 0x00, 1)  # local twice
        + symbol(bits, 18, high + 0x100020, 0x10, 1)  # global twice: wins
        + symbol(bits, 24, high + 0x100030, 0x10, 1)  # a name that is no UTF-8
        + symbol(bits, 1, 0, 0x10, 0)  # undefined: left out
        + symbol(bits, 9999, 1, 0x10, 1)  # name outside: left out
    )
    data = note(b"GNU\0", 3, b"\x01" * 20) + note(b"Xen\0", 18, struct.pack("<I", 0x100000))
    load: dict[str, Any] = {"p_type": 1, "p_align": 0x100}
    elf = TinyElf(
        bits,
        bytearray(b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)),
        dict(
            zip(
                EHDR_FIELDS,
                (2, {32: 3, 64: 62}[bits], 1, 0x100000, size, 0, 0, size, 0, 3, 0, 4, 1),
            )
        ),
        [
            load
            | {
                "p_flags": 5,
                "p_offset": 0x200,
                "p_vaddr": high + 0x100000,
                "p_paddr": 0x100000,
                "p_filesz": 0x80,
                "p_memsz": 0x80,
            },
            load
            | {
                "p_flags": 6,
                "p_offset": 0x300,
                "p_vaddr": high + 0x100100,
                "p_paddr": 0x100100,
                "p_filesz": 0x10,
                "p_memsz": 0x1000,
            },
            {"p_type": 4, "p_flags": 4, "p_offset": 0x400, "p_vaddr": 0, "p_paddr": 0},
        ],
        [
            dict.fromkeys(SHDR_FIELDS, 0),
            dict.fromkeys(SHDR_FIELDS, 0) | {"sh_type": 3, "sh_offset": 0x320, "sh_size": 1},
            dict.fromkeys(SHDR_FIELDS, 0)
            | {
                "sh_type": 2,
                "sh_offset": 0x580,
                "sh_size": len(symbols),
                "sh_link": 3,
                "sh_entsize": {32: 16, 64: 24}[bits],
            },
            dict.fromkeys(SHDR_FIELDS, 0) | {"sh_type": 3, "sh_offset": 0x540, "sh_size": len(strings)},
        ],
        {0x200: bytes(range(0x80)), 0x300: b"\xdd" * 0x10, 0x540: strings, 0x580: symbols},
    )
    elf.ehdr |= {"e_phentsize": struct.calcsize(PHDR[bits]), "e_shentsize": struct.calcsize(SHDR[bits])}
    elf.notes(data)
    elf.ehdr["e_shoff"] = 0x580 + len(symbols)
    return elf
