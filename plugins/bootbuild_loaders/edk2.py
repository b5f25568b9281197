"""EDK2's image loader: what UEFI firmware does with a PE, from its boot manager to the first instruction.

Follows MdePkg/Library/BasePeCoffLib/BasePeCoff.c, MdeModulePkg/Core/Dxe/Image/Image.c, and, where images
are protected, Core/Dxe/Misc/MemoryProtection.c, of edk2-stable202211. Messages are the EFI_STATUS in EDK2's
words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.edk2_directories import check_codeview, check_debug, check_relocations, check_resources
from bootbuild_loaders.pe_headers import (
    DIRECTORIES,
    DOS_SIZE,
    EXECUTE,
    FIXED_SIZE,
    NT_SIZE,
    SECTION_SIZE,
    SECURITY,
    WORD,
    WRITE,
    Headers,
    Section,
    holds,
    overlap,
)
from bootbuild_loaders.pe_status import (
    CRASH,
    INVALID_PARAMETER,
    LOAD_ERROR,
    NOT_FOUND,
    OUT_OF_RESOURCES,
    UNSUPPORTED,
)
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

X64, I386, EBC, ARM64 = 0x8664, 0x14C, 0xEBC, 0xAA64
APPLICATION, DRIVERS = 10, (11, 12, 13)
PAGE, MiB = 4096, 1 << 20
ROOM = 448 * MiB  #: bytes in one piece, in a machine of 512 MiB
LOW = (PAGE, 512 << 10)  #: where nothing is yet, as in the next
FREE = ((1 * MiB, 8 * MiB), (24 * MiB, 448 * MiB))


class Edk2:
    """A boot option of UEFI firmware that does not protect images: OVMF, and most of what there is."""

    name = "edk2"
    version = "2022.11"
    evidence = Evidence.ORACLE
    source = (
        "MdePkg/Library/BasePeCoffLib, MdeModulePkg/Core/Dxe/Image; held to Debian's OVMF (tests/oracles)"
    )
    rules = only(
        pe_rules.NOT_PE,
        pe_rules.MACHINE,
        pe_rules.OPTIONAL_HEADER,
        pe_rules.HEADER_SPACE,
        pe_rules.TRUNCATED,
        pe_rules.IN_HEADERS,
        pe_rules.SUBSYSTEM,
        pe_rules.OUTSIDE,
        pe_rules.ALIGNMENT,
        pe_rules.FIXED,
        pe_rules.RELOCATIONS,
        pe_rules.ENTRY,
        pe_rules.OVERLAP,
        pe_rules.DEBUG,
        pe_rules.MEMORY,
        pe_rules.RESOURCES,
        rules.NOT_JUDGED,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "efi". Where a file is loaded is the firmware's choice, so that no entry is named."""
        return judged(content, lambda: start(load(Window(content))))


class Edk2Protected(Edk2):
    """The same firmware, built to protect the images of applications (PcdImageProtectionPolicy 3)."""

    name = "edk2-protected"
    evidence = Evidence.SOURCE
    source = "the same, and MdeModulePkg/Core/Dxe/Misc/MemoryProtection.c"
    rules = (*Edk2.rules, *only(pe_rules.PROTECTED))

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "efi"."""
        return judged(content, lambda: _protected(load(Window(content))))


def judged(content: Content, load: Callable[[], str]) -> Sequence[LoaderVerdict]:
    """The verdict on what raises Stopped, or returns a rule that is broken without consequences.

    What does not even begin as an application does was not meant for any of these loaders.
    """
    try:
        return [LoaderVerdict("efi", "accept", None, load())]
    except Stopped as stop:
        foreign = stop.rule == pe_rules.NOT_PE and content.read(0, 2) != b"MZ"
        return [LoaderVerdict("efi", "ignore" if foreign else stop.verdict, None, stop.rule, stop.message)]


def load(window: Window, *, boot_option: bool = True) -> Headers:
    """LoadImage; as a boot option the boot manager looks at the subsystem first. Raises Stopped."""
    headers = _find(window)
    _check_headers(headers)
    sections = headers.sections
    if headers.machine not in (X64, I386, EBC, ARM64):
        raise Stopped(pe_rules.MACHINE, UNSUPPORTED)
    for section in sections:
        _check_section(headers, section)
    added, debug_at = check_debug(headers, sections)
    if headers.machine == EBC:  # bytecode, which this firmware interprets
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
    if headers.machine not in (X64, I386):
        raise Stopped(pe_rules.MACHINE, UNSUPPORTED)
    if headers.subsystem != APPLICATION and (boot_option or headers.subsystem not in DRIVERS):
        message = NOT_FOUND if headers.subsystem in DRIVERS else UNSUPPORTED
        raise Stopped(pe_rules.SUBSYSTEM, message)
    moved = _place(headers, headers.image_size + added)
    for section in sections:
        _copy(headers.image_size + added, section)
    if debug_at:
        check_codeview(headers, headers.image_size + added, debug_at)
    check_resources(headers)
    if not headers.stripped:
        check_relocations(headers, headers.image_size + added, moved)
    return headers


def start(headers: Headers) -> str:
    """StartImage. Raises Stopped; or the rule that is broken though nothing comes of it."""
    if headers.machine == I386:
        raise Stopped(pe_rules.MACHINE, UNSUPPORTED)
    sections = headers.sections
    if overlap(sections):
        raise Stopped(pe_rules.OVERLAP, "", "wild")
    if not any(holds(section, headers.entry) for section in sections):
        raise Stopped(pe_rules.ENTRY, "", "wild")
    return misaligned(headers, sections)


def misaligned(headers: Headers, sections: Sequence[Section]) -> str:
    """BB-L528 where sections are not where SectionAlignment says."""
    alignment = headers.section_alignment
    power = alignment > 0 and alignment & alignment - 1 == 0
    return "" if power and all(s.address % alignment == 0 for s in sections) else pe_rules.ALIGNMENT


def _find(window: Window) -> Headers:
    """PeCoffLoaderGetPeHeader, to the magic numbers."""
    if window.size < DOS_SIZE:
        raise Stopped(pe_rules.NOT_PE, UNSUPPORTED if window.size else LOAD_ERROR)
    at = window.u32(0x3C) if window.get(0, 2) == b"MZ" else 0
    if at + NT_SIZE > window.size:
        found = window.get(at, 4) == b"PE\0\0"
        raise Stopped(pe_rules.TRUNCATED if found else pe_rules.NOT_PE, UNSUPPORTED)
    if window.get(at, 2) == b"VZ":  # a terse executable, which is for firmware's own parts
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
    if window.get(at, 4) != b"PE\0\0":
        raise Stopped(pe_rules.NOT_PE, UNSUPPORTED)
    headers = Headers(window, at)
    if headers.magic not in FIXED_SIZE:
        raise Stopped(pe_rules.OPTIONAL_HEADER, UNSUPPORTED)
    return headers


def _check_headers(headers: Headers) -> None:
    """PeCoffLoaderGetPeHeader, up to the sections."""
    count, table = headers.directory_count, headers.table
    if count > DIRECTORIES or headers.optional_size != FIXED_SIZE[headers.magic] + 8 * count:
        raise Stopped(pe_rules.OPTIONAL_HEADER, UNSUPPORTED)
    fits = (
        (headers.image_size - table) // SECTION_SIZE > headers.section_count
        and table < headers.header_size < headers.image_size
        and (headers.header_size - table) // SECTION_SIZE >= headers.section_count
    )
    if not fits:
        raise Stopped(pe_rules.HEADER_SPACE, UNSUPPORTED)
    address, size = headers.directory(SECURITY)
    if headers.header_size > headers.window.size or (size and address + size > headers.window.size):
        raise Stopped(pe_rules.TRUNCATED, UNSUPPORTED)


def _check_section(headers: Headers, section: Section) -> None:
    if not section.raw_size:
        return
    if min(section.address, section.raw) < headers.header_size:
        raise Stopped(pe_rules.IN_HEADERS, UNSUPPORTED)
    if section.raw + section.raw_size > headers.window.size:
        raise Stopped(pe_rules.TRUNCATED, UNSUPPORTED)


def _place(headers: Headers, size: int) -> bool:
    """CoreLoadPeImage: the memory. Whether the image lies elsewhere than at ImageBase."""
    alignment, base = headers.section_alignment, headers.image_base
    needed = size + (alignment if alignment > PAGE else 0)
    places = (LOW, *FREE) if headers.stripped else FREE
    free = base % PAGE == 0 and any(low <= base and base + needed <= high for low, high in places)
    if headers.stripped:
        if not free:
            raise Stopped(pe_rules.FIXED, NOT_FOUND if base else INVALID_PARAMETER)
    elif needed > ROOM:
        raise Stopped(pe_rules.MEMORY, OUT_OF_RESOURCES)
    if not alignment:
        raise Stopped(pe_rules.ALIGNMENT, INVALID_PARAMETER)
    aligned = not base & (alignment - 1)
    if headers.stripped and not aligned:
        raise Stopped(pe_rules.FIXED, INVALID_PARAMETER)
    return not (free and aligned)


def _copy(image_size: int, section: Section) -> None:
    """PeCoffLoaderLoadImage of one section. Sums are of 32 bits."""
    last = section.address + section.size - 1 & WORD
    if section.copied and (section.address >= image_size or last >= image_size):
        raise Stopped(pe_rules.OUTSIDE, LOAD_ERROR)
    if section.end > image_size and section.end > section.address:
        raise Stopped(pe_rules.OUTSIDE, "", "wild")


def _protected(headers: Headers) -> str:
    """ProtectUefiImage, then the entry."""
    said = start(headers)
    sections = headers.sections
    alignment = headers.section_alignment
    code = sorted(
        (s.address, s.address + -(-s.raw_size // alignment) * alignment)
        for s in sections
        if s.flags & (WRITE | EXECUTE) == EXECUTE
    )
    ends = [0, *(end for _, end in code)]
    valid = all(low < high <= headers.image_size and low >= end for (low, high), end in zip(code, ends))
    if alignment % PAGE or not code or not valid:
        return said  # it is left as it is
    if not any(low <= headers.entry < high for low, high in code):
        raise Stopped(pe_rules.PROTECTED, CRASH, "wild")
    if said:  # attributes are of whole pages
        raise Stopped(pe_rules.ALIGNMENT, "", "wild")
    return said
