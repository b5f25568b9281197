"""After every write of a PE file: whether it is what was asked for, and what loaders agree on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bootbuild.containers import pe_rules as rules
from bootbuild.errors import Problem, VerificationError
from bootbuild.formats.pe_read import PeError, PeFile, PeSection, checksum_of, read_pe
from bootbuild.model.content import Content, FileContent, first_difference
from bootbuild.model.contribution import Layout, PlacedSection
from bootbuild.model.payload import Payload
from bootbuild.model.rule import Rule
from bootbuild.model.span import align_up

_PAGE = 4096
_AMD64, _EFI_APPLICATION = 0x8664, 10
_EXECUTABLE_IMAGE, _RELOCS_STRIPPED, _NX_COMPAT = 0x2, 0x1, 0x100
_RELOCATION_DIRECTORY = 5

Found = tuple[Rule, str]


def verify(payload: Payload, layout: Layout, path: Path, name: str) -> None:
    """Check the image at `path`, called `name` in messages.

    Raises VerificationError (BB-W065 to BB-W078) with every rule that it breaks.
    """
    content = FileContent(path)
    if not layout.sections:
        assert payload.elf.packing is not None
        found = list(_same(payload.elf.packing, content))
    else:
        try:
            pe = read_pe(content)
        except PeError as error:
            found = [(rules.NOT_PE, str(error))]
        else:
            found = [*application_faults(pe), *_asked(layout, pe)]
    if found:
        raise VerificationError(Problem(rule, name, message) for rule, message in found)


def application_faults(pe: PeFile) -> Iterator[Found]:
    """What of an application's file loaders disagree on, or refuse."""
    yield from _kind(pe)
    yield from _memory(pe)
    yield from _file(pe)
    yield from _entry(pe)
    yield from _stale(pe)
    if (right := checksum_of(pe)) != pe.checksum:
        yield rules.CHECKSUM, f"CheckSum is {pe.checksum:#x}, the file's is {right:#x}"


def _same(old: Content, new: Content) -> Iterator[Found]:
    if old.size != new.size:
        yield rules.FILE_CHANGED, f"{new.size} bytes, the payload's file has {old.size}"
        return
    at = first_difference(old, 0, new, 0, old.size)
    if at is not None:
        yield rules.FILE_CHANGED, f"first at file offset {at:#x}"


def _kind(pe: PeFile) -> Iterator[Found]:
    if (pe.bits, pe.machine, pe.subsystem) != (64, _AMD64, _EFI_APPLICATION):
        yield rules.NOT_PE, f"PE of {pe.bits} bits, machine {pe.machine:#x}, subsystem {pe.subsystem}"
    if not pe.characteristics & _EXECUTABLE_IMAGE or len(pe.directories) != 16:
        yield rules.NOT_PE, f"characteristics {pe.characteristics:#x}, {len(pe.directories)} directories"
    if pe.table.end > pe.header_size or pe.header_size % max(pe.file_alignment, 1):
        yield rules.HEADERS, f"section headers at {pe.table}, SizeOfHeaders {pe.header_size:#x}"


def _memory(pe: PeFile) -> Iterator[Found]:
    """The image once it is loaded."""
    end = pe.header_size
    if pe.section_alignment < _PAGE:
        yield rules.ALIGNMENT, f"SectionAlignment is {pe.section_alignment:#x}"
    for s in pe.sections:
        if s.address < end:
            yield rules.OVERLAP, f"{s.name} at {s.memory}, what is before it ends at {end:#x}"
        if s.address % _PAGE:
            yield rules.ALIGNMENT, f"{s.name} is loaded at {s.address:#x}"
        if s.writable and s.executable:
            yield rules.WRITABLE_CODE, f"{s.name} is writable and executable"
        if s.discardable:
            yield rules.DISCARDABLE, f"{s.name} is"
        end = max(end, s.memory.end)
    if not pe.dll_characteristics & _NX_COMPAT:
        yield rules.WRITABLE_CODE, f"no NX_COMPAT in DllCharacteristics {pe.dll_characteristics:#x}"
    if pe.image_size != align_up(end, _PAGE):
        yield rules.IMAGE_SIZE, f"SizeOfImage is {pe.image_size:#x}, the last section ends at {end:#x}"


def _file(pe: PeFile) -> Iterator[Found]:
    """Raw data: one after the other, to the end of the file."""
    end, unit = pe.header_size, max(pe.file_alignment, 1)
    for s in pe.sections:
        if not s.raw_size and not s.raw:
            continue
        if s.raw != end or s.raw_size != align_up(s.size, unit):
            yield (
                rules.RAW,
                f"{s.name}: {s.size:#x} bytes, raw data at {s.file}, those before end at {end:#x}",
            )
        elif any(pe.content.read(s.raw + s.size, s.raw_size - s.size)):
            yield rules.RAW, f"{s.name}: what it is padded with is not zero"
        if s.raw % unit:
            yield rules.ALIGNMENT, f"{s.name}: raw data at {s.raw:#x}, FileAlignment {unit:#x}"
        end = max(end, s.file.end)
    if end != pe.content.size:
        yield rules.RAW, f"raw data end at {end:#x}, the file at {pe.content.size:#x}"


def _entry(pe: PeFile) -> Iterator[Found]:
    homes = [s for s in pe.sections if s.address <= pe.entry < s.address + s.size - 1]
    if len(homes) != 1 or not homes[0].executable:
        names = ", ".join(s.name for s in homes) or "no section"
        yield rules.ENTRY, f"AddressOfEntryPoint {pe.entry:#x} lies in {names}"


def _stale(pe: PeFile) -> Iterator[Found]:
    if any(pe.symbols):
        yield rules.STALE, f"{pe.symbols[1]} symbols at {pe.symbols[0]:#x}"
    for s in pe.sections:
        if s.relocations or s.line_numbers:
            yield rules.STALE, f"{s.name} has relocations or line numbers"
    for index, directory in enumerate(pe.directories):
        if index != _RELOCATION_DIRECTORY and any(directory):
            yield rules.STALE, f"data directory {index} is at {directory[0]:#x}"
    reloc = pe.section(".reloc")
    wanted = (0, 0) if reloc is None else (reloc.address, reloc.size)
    own = pe.directories[_RELOCATION_DIRECTORY] if len(pe.directories) > _RELOCATION_DIRECTORY else (0, 0)
    if pe.characteristics & _RELOCS_STRIPPED or not own[1] or own != wanted:
        yield (
            rules.RELOCATIONS,
            f"the directory is {own[1]} bytes at {own[0]:#x}, .reloc is at {wanted[0]:#x}",
        )


def _asked(layout: Layout, pe: PeFile) -> Iterator[Found]:
    """Whether the sections are those of the layout."""
    names = [s.name for s in pe.sections]
    if names != [s.name for s in layout.sections]:
        yield rules.SECTIONS, f"they are {', '.join(names)}"
        return
    if pe.entry != layout.entry_point:
        yield rules.ENTRY, f"AddressOfEntryPoint is {pe.entry:#x}"
    for wanted, found in zip(layout.sections, pe.sections, strict=True):
        if (found.address, found.size, found.flags) != (wanted.address, wanted.size, wanted.flags):
            text = f"{found.name} at {found.memory}, characteristics {found.flags:#x}"
            yield rules.SECTIONS, f"{text}, not at {wanted.memory} with {wanted.flags:#x}"
        elif not _holds(pe, found, wanted):
            yield rules.SECTIONS, f"{found.name} holds other bytes"


def _holds(pe: PeFile, found: PeSection, wanted: PlacedSection) -> bool:
    if wanted.content is None:
        return not found.raw_size
    return first_difference(wanted.content, 0, pe.content, found.raw, wanted.size) is None
