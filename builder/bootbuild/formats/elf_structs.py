"""The structures of ELF files of both classes, little endian: gABI chapters 4 and 5."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from bootbuild.model.content import Content
from bootbuild.model.payload import EM_386, EM_X86_64, Segment

MAGIC = b"\x7fELF"
IDENT_SIZE = 16


class ElfClass(NamedTuple):
    """The structures of one ELF class, little endian. Fields after e_ident as in Elf32_Ehdr, Elf64_Ehdr."""

    bits: int
    machine: int
    ehdr: struct.Struct
    phdr: struct.Struct
    shdr: struct.Struct
    sym: struct.Struct

    def segment(self, raw: bytes, offset: int = 0) -> Segment:
        """A program header: the two classes order its fields differently."""
        fields = self.phdr.unpack_from(raw, offset)
        if self.bits == 64:
            type_, flags, *rest = fields
        else:
            type_, *rest, flags, align = fields
            rest.append(align)
        return Segment(type_, flags, *rest)

    def pack_segment(self, segment: Segment) -> bytes:
        """The inverse of `segment`."""
        s = segment
        rest = (s.offset, s.vaddr, s.paddr, s.filesz, s.memsz)
        if self.bits == 64:
            return self.phdr.pack(s.type, s.flags, *rest, s.align)
        return self.phdr.pack(s.type, *rest, s.flags, s.align)


ELF32 = ElfClass(
    32,
    EM_386,
    struct.Struct("<HHIIIIIHHHHHH"),
    struct.Struct("<IIIIIIII"),
    struct.Struct("<IIIIIIIIII"),
    struct.Struct("<IIIBBH"),
)
ELF64 = ElfClass(
    64,
    EM_X86_64,
    struct.Struct("<HHIQQQIHHHHHH"),
    struct.Struct("<IIQQQQQQ"),
    struct.Struct("<IIQQQQIIQQ"),
    struct.Struct("<IBBHQQ"),
)
CLASSES = {1: ELF32, 2: ELF64}  #: by EI_CLASS


@dataclass(frozen=True)
class ElfHeader:
    """The ELF header's fields after e_ident, as the specification spells them."""

    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int


def header(content: Content) -> tuple[ElfClass, ElfHeader]:
    """Class and header of a file that `read_elf` has accepted."""
    elf = CLASSES[content.read(4, 1)[0]]
    return elf, ElfHeader(*elf.ehdr.unpack(content.read(IDENT_SIZE, elf.ehdr.size)))
