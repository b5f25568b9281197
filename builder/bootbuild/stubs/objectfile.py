"""From a relocatable ELF object, as `ld -r` leaves it, to a blob. Read with pyelftools."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bootbuild.errors import PluginError, Problem
from bootbuild.model.blob import Blob, Fixup, FixupKind, Section
from bootbuild.stubs import rules

SHF_ALLOC = 2  # gABI, section header flags
SHN_UNDEF = "SHN_UNDEF"
# i386 psABI table 4.9, x86-64 psABI table 4.9
_KINDS: dict[tuple[str, int], FixupKind] = {
    ("EM_386", 1): "abs32",  # R_386_32
    ("EM_386", 2): "pc32",  # R_386_PC32
    ("EM_386", 4): "pc32",  # R_386_PLT32: no PLT in a static link
    ("EM_X86_64", 1): "abs64",  # R_X86_64_64
    ("EM_X86_64", 2): "pc32",  # R_X86_64_PC32
    ("EM_X86_64", 4): "pc32",  # R_X86_64_PLT32
    ("EM_X86_64", 10): "abs32",  # R_X86_64_32
    ("EM_X86_64", 11): "abs32s",  # R_X86_64_32S
}
# What gcc calls by itself: GCC manual, "Standards" (freestanding), and libgcc's integer routines
_RUN_TIME = {"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_"}
_SECTIONS: tuple[Section, ...] = (".text", ".bss")


def read_object(path: Path, name: str, width: int, toolchain: str) -> Blob:
    """The blob in the relocatable object `path`, whose text and constants are one section.

    Distances inside the text are final and become bytes. Raises PluginError (BB-P029 … BB-P032).
    """
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        problems = list(_section_problems(elf, name))
        text_section = elf.get_section_by_name(".text")
        bss_section = elf.get_section_by_name(".bss")
        text = bytearray(text_section.data())
        fixups = []
        for entry, symbol in _relocations(elf):
            offset = entry["r_offset"]
            kind = _KINDS.get((elf["e_machine"], entry["r_info_type"]))
            if kind is None:
                message = f"relocation type {entry['r_info_type']} of {elf['e_machine']}"
                problems.append(Problem(rules.RELOCATION, f"{name}+{offset:#x}", message))
                continue
            addend = entry["r_addend"] if entry.is_RELA() else struct.unpack_from("<i", text, offset)[0]
            section = _section_of(elf, symbol)
            text[offset : offset + (8 if kind == "abs64" else 4)] = bytes(8 if kind == "abs64" else 4)
            if section is None:
                problems += _library_problem(name, symbol.name)
                fixups.append(Fixup(offset, kind, symbol.name, addend))
            elif section == ".text" and kind == "pc32":
                struct.pack_into("<i", text, offset, symbol["st_value"] + addend - offset)
            else:
                fixups.append(Fixup(offset, kind, section, symbol["st_value"] + addend))
        exports = dict(_exports(elf))
    if problems:
        raise PluginError(dict.fromkeys(problems))
    return Blob(
        name=name,
        width=width,
        text=bytes(text),
        align=max(text_section["sh_addralign"], 16),
        bss_size=bss_section["sh_size"] if bss_section else 0,
        bss_align=max(bss_section["sh_addralign"], 1) if bss_section else 1,
        fixups=tuple(sorted(fixups, key=lambda fixup: fixup.offset)),
        exports=dict(sorted(exports.items())),
        toolchain=toolchain,
    )


def _section_problems(elf: Any, name: str) -> Iterator[Problem]:
    for section in elf.iter_sections():
        if not section["sh_flags"] & SHF_ALLOC or not section["sh_size"] or section.name in _SECTIONS:
            continue
        if section.name == ".data":
            yield Problem(rules.DATA, name, f"has {section['sh_size']} bytes of initialised, writable data")
        else:
            yield Problem(rules.SECTION, name, f"has a section {section.name}")


def _relocations(elf: Any) -> Iterator[tuple[Any, Any]]:
    """Each relocation of .text with its symbol."""
    for suffix in (".rel.text", ".rela.text"):
        table = elf.get_section_by_name(suffix)
        if table is not None:
            symbols = elf.get_section(table["sh_link"])
            for entry in table.iter_relocations():
                yield entry, symbols.get_symbol(entry["r_info_sym"])


def _section_of(elf: Any, symbol: Any) -> Section | None:
    """The section in which a symbol is defined; None when it is another stub's."""
    index = symbol["st_shndx"]
    if not isinstance(index, int):
        return None
    name = elf.get_section(index).name
    return next((section for section in _SECTIONS if section == name), None)


def _library_problem(name: str, symbol: str) -> list[Problem]:
    if symbol in _RUN_TIME or symbol.startswith("__"):
        return [Problem(rules.LIBRARY, name, f"calls {symbol}")]
    return []


def _exports(elf: Any) -> Iterator[tuple[str, tuple[Section, int]]]:
    """Global symbols of default visibility: `.globl` in assembly, BB_EXPORT in C."""
    for symbol in elf.get_section_by_name(".symtab").iter_symbols():
        section = _section_of(elf, symbol)
        visible = symbol["st_other"]["visibility"] == "STV_DEFAULT"
        if section and visible and symbol["st_info"]["bind"] == "STB_GLOBAL":
            yield symbol.name, (section, symbol["st_value"])
