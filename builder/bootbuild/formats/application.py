"""A UEFI application of bootbuild's, read back: the kernel that it carries, and the record of its making."""

from __future__ import annotations

from dataclasses import replace

from bootbuild.abi.application import (
    CMDLINE,
    KERNEL,
    MAX_MODULES,
    MAX_STRINGS,
    MODULE,
    MODULE_CMDLINE,
    RECORD,
)
from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.notes import NoteError, parse
from bootbuild.formats.pe_read import PeError, PeFile, PeSection, read_pe
from bootbuild.model.content import Content, part_of
from bootbuild.model.payload import ElfImage

FORMAT = "efi application"
_MOST = 4096  #: bytes of a record, of which a claim takes some 100


def read_application(content: Content, name: str) -> ElfImage | None:
    """The kernel in an application, packed in its file, with the record's claims; None for another file.

    Raises InputError for an application whose kernel or record cannot be read, or that carries too much.
    """
    try:
        pe = read_pe(content)
    except PeError:
        return None
    kernel, record = pe.section(KERNEL), pe.section(RECORD)
    if kernel is None or record is None:
        return None
    _check_carried(pe, name)
    where = f"{name} ({RECORD})"
    if record.size > _MOST:
        text = f"a record of {record.size} bytes; there is room for {_MOST}"
        raise InputError(Problem(rules.NOTE_CLAIM, where, text))
    try:
        claims = parse(pe.read(record), record.raw)
    except NoteError as error:
        raise InputError(Problem(rules.NOTE_CLAIM, where, str(error))) from None
    elf = read_elf(_held(pe, kernel), f"{name} ({KERNEL})")
    return replace(elf, notes=(*elf.notes, *claims), packing=content)


def _check_carried(pe: PeFile, name: str) -> None:
    """Whether its stub would hand all of it over: texts are read as a whole. Raises InputError."""
    lines = [_held(pe, s).size + 1 for s in pe.sections if s.name in (CMDLINE, MODULE_CMDLINE)]
    modules = sum(section.name == MODULE for section in pe.sections)
    counts = ((sum(lines), MAX_STRINGS, "bytes of command lines"), (modules, MAX_MODULES, "modules"))
    if wrong := [f"{count} {what}; it hands over {most}" for count, most, what in counts if count > most]:
        raise InputError(Problem(rules.CARRIED, name, text) for text in wrong)


def carried(content: Content) -> tuple[bytes, tuple[tuple[str, Content, bytes], ...]]:
    """What an application hands to its kernel: command line, and modules (name, content, command line).

    Nothing for another file.
    """
    try:
        pe = read_pe(content)
    except PeError:
        return b"", ()
    if pe.section(KERNEL) is None or pe.section(RECORD) is None:
        return b"", ()
    first = pe.section(CMDLINE)  # which alone counts
    cmdline = b"" if first is None else _held(pe, first).read(0, first.size)
    modules: list[tuple[str, Content, bytes]] = []
    for section in pe.sections:
        held = _held(pe, section)
        if section.name == MODULE:
            modules.append((f"{MODULE} {len(modules)}", held, b""))
        elif section.name == MODULE_CMDLINE and modules:
            modules[-1] = (*modules[-1][:2], held.read(0, held.size))
    return cmdline, tuple(modules)


def _held(pe: PeFile, section: PeSection) -> Content:
    """A section's part of the file, by reference."""
    return part_of(pe.content, section.raw, min(section.size, section.raw_size))
