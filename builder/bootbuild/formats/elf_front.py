"""The start of an ELF file: what of it is padding, where program headers and loaders' headers have room."""

from __future__ import annotations

from bootbuild.formats.elf_structs import IDENT_SIZE, header
from bootbuild.model.payload import PT_LOAD, PT_NULL, PT_PHDR, ElfImage
from bootbuild.model.span import Span

SHT_NOBITS, SHT_RELA, SHT_REL = 8, 4, 9
LONGEST = 1 << 16  #: bytes; no loader searches so far


def first_room(image: ElfImage) -> Span | None:
    """File offsets from the ELF header to the first byte that anything speaks of, or that is not zero.

    The program header table, which an edit writes anew, counts as room. None where there is no use of it:
    a PT_LOAD brings the ELF header into memory, or there are relocation sections, for which GRUB refuses a
    file by Multiboot 2 (`ELF files with relocs are not supported yet`, loader/multiboot_elfxx.c).
    """
    elf, fields = header(image.content)
    start = IDENT_SIZE + elf.ehdr.size
    used = [s.offset for s in image.segments if s.filesz and s.type not in (PT_NULL, PT_PHDR)]
    if any(s.type == PT_LOAD and s.filesz and s.offset < start for s in image.segments):
        return None
    raw = image.content.read(fields.e_shoff, fields.e_shnum * elf.shdr.size) if fields.e_shoff else b""
    for at in range(0, len(raw) - elf.shdr.size + 1, elf.shdr.size):
        _, kind, _, _, offset, size, *_ = elf.shdr.unpack_from(raw, at)
        if kind in (SHT_REL, SHT_RELA):
            return None
        if size and kind not in (0, SHT_NOBITS):
            used.append(offset)
    if raw:
        used.append(fields.e_shoff)
    table = Span(fields.e_phoff, fields.e_phnum * elf.phdr.size)
    end = min([start + LONGEST, image.content.size, *(offset for offset in used if offset >= start)])
    data = bytearray(image.content.read(0, end))
    data[table.start : table.end] = bytes(table.size)
    dirty = next((at for at in range(start, end) if data[at]), end)
    return Span(start, dirty - start)
