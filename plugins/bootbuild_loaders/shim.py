"""shim as the loader of what it starts next: it trusts no firmware, and loads a PE by itself.

Follows pe.c and pe-relocate.c of shim 16.1, of which those of 15.8 differ in nothing that a file shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootbuild.api import Content, Evidence, LoaderVerdict
from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.catalogue import only
from bootbuild_loaders.edk2 import ROOM, X64, judged, misaligned
from bootbuild_loaders.edk2_directories import KNOWN
from bootbuild_loaders.pe_headers import (
    BASE_RELOCATIONS,
    DIRECTORIES,
    DISCARDABLE,
    DOS_SIZE,
    EXECUTE,
    FIXED_SIZE,
    NT_SIZE,
    PE32_PLUS,
    READ,
    SECTION_SIZE,
    SECURITY,
    UNINITIALIZED,
    WORD,
    WRITE,
    Headers,
    Section,
    overlap,
)
from bootbuild_loaders.shim_sbat import check_sbat
from bootbuild_loaders.stopped import Stopped
from bootbuild_loaders.window import Window

INVALID = "Invalid image"
NX_COMPAT = 0x100
PAGE, FILE_ALIGNMENT = 4096, 512  #: bytes, where the headers say 0
BLOCKS_MAX, WORDS_MAX = 1 << 16, 1 << 22  #: of base relocations that are followed


class Shim:
    """shim without Secure Boot: who signed the file, and SBAT, it does not look at."""

    name = "shim"
    version = "16.1"
    evidence = Evidence.ORACLE
    source = "pe.c, pe-relocate.c; held to Debian's shimx64.efi in OVMF (tests/oracles)"
    strict = False
    rules = only(
        pe_rules.NOT_PE,
        pe_rules.MACHINE,
        pe_rules.OPTIONAL_HEADER,
        pe_rules.HEADER_SPACE,
        pe_rules.TRUNCATED,
        pe_rules.IN_HEADERS,
        pe_rules.ALIGNMENT,
        pe_rules.FIXED,
        pe_rules.RELOCATIONS,
        pe_rules.ENTRY,
        pe_rules.OVERLAP,
        pe_rules.MEMORY,
        pe_rules.UNPLACED,
        pe_rules.SHIM_ENTRY,
        pe_rules.DISCARDED,
        pe_rules.SHIM_RELOC,
        pe_rules.HASH,
        pe_rules.FILE_ALIGNMENT,
        rules.NOT_JUDGED,
    )

    def judge(self, content: Content) -> Sequence[LoaderVerdict]:
        """For protocol "efi"."""
        return judged(content, lambda: _handle_image(Window(content), self.strict))


class ShimStrict(Shim):
    """shim with Secure Boot and NX required: the file as it would be once it is signed."""

    name = "shim-strict"
    evidence = Evidence.SOURCE
    source = "pe.c, pe-relocate.c, sbat.c, csv.c"
    strict = True
    rules = (*Shim.rules, *only(pe_rules.SBAT, pe_rules.NX_COMPAT))


def _handle_image(window: Window, strict: bool) -> str:
    headers = _read_header(window, strict)
    if strict:
        check_sbat(headers)
    _check_hash(headers)
    # read_header: section and file alignment, where they are 0 or the one is less than the other
    alignment = max(headers.section_alignment or PAGE, headers.file_alignment or FILE_ALIGNMENT)
    if headers.image_size + alignment > ROOM:
        raise Stopped(pe_rules.MEMORY, "Failed to allocate image buffer")
    if headers.entry >= headers.image_size:
        raise Stopped(pe_rules.ENTRY, "Entry point is invalid")
    relocations, holding = _place(headers, strict)
    if headers.directory_count <= BASE_RELOCATIONS:
        raise Stopped(pe_rules.SHIM_RELOC, "Image has no relocation entry")
    if relocations is not None:
        _relocate(headers, relocations)
    if not holding:
        raise Stopped(pe_rules.SHIM_ENTRY, "Entry point is not within sections")
    if len(holding) > 1:
        raise Stopped(pe_rules.SHIM_ENTRY, f"{len(holding)} sections contain entry point")
    if holding[0].flags & DISCARDABLE:
        raise Stopped(pe_rules.DISCARDED, "", "wild")
    placed = [s for s in headers.sections if s.flags & READ and not s.flags & DISCARDABLE]
    if overlap(placed):
        raise Stopped(pe_rules.OVERLAP, "", "wild")
    return misaligned(headers, placed)


def _read_header(window: Window, strict: bool) -> Headers:
    has_dos = window.get(0, 2) == b"MZ"
    at = window.u32(0x3C) if has_dos else 0
    if window.size < DOS_SIZE or (has_dos and at < DOS_SIZE):
        raise Stopped(pe_rules.NOT_PE, INVALID)
    headers = Headers(window, at)
    if window.size - at < (NT_SIZE if headers.magic == PE32_PLUS else NT_SIZE - 16):
        raise Stopped(pe_rules.TRUNCATED if window.get(at, 2) == b"PE" else pe_rules.NOT_PE, INVALID)
    if headers.machine != X64 or headers.magic != PE32_PLUS:
        known = window.get(at, 2) == b"PE"
        rule = pe_rules.MACHINE if headers.machine != X64 else pe_rules.OPTIONAL_HEADER
        raise Stopped(rule if known else pe_rules.NOT_PE, "Platform does not support this image")
    if headers.file_alignment % 2:
        raise Stopped(pe_rules.FILE_ALIGNMENT, f"File Alignment is invalid ({headers.file_alignment})")
    if headers.directory_count > DIRECTORIES:
        raise Stopped(pe_rules.OPTIONAL_HEADER, "Image header too large")
    if headers.optional_size != FIXED_SIZE[PE32_PLUS] + 8 * headers.directory_count:
        raise Stopped(pe_rules.OPTIONAL_HEADER, "Image header overflows data directory")
    _check_table(headers)
    if window.get(at, 2) != b"PE":
        raise Stopped(pe_rules.NOT_PE, "Unsupported image type")
    if headers.stripped:
        raise Stopped(pe_rules.FIXED, "Unsupported image - Relocations have been stripped")
    if strict and not headers.window.u16(headers.at + 24 + 70) & NX_COMPAT:
        raise Stopped(pe_rules.NX_COMPAT, "Policy requires NX, but image does not support NX")
    if headers.image_size < headers.header_size:
        raise Stopped(pe_rules.HEADER_SPACE, INVALID)
    address, size = headers.words_of_directory(SECURITY)
    if address > window.size or (address == window.size and size):
        raise Stopped(pe_rules.TRUNCATED, "Malformed security header")
    return headers


def _check_table(headers: Headers) -> None:
    count, table = headers.section_count, headers.table
    if (headers.image_size - table) // SECTION_SIZE <= count:
        raise Stopped(pe_rules.HEADER_SPACE, "Image sections overflow image size")
    if (headers.header_size - table) // SECTION_SIZE < count:
        raise Stopped(pe_rules.HEADER_SPACE, "Image sections overflow section headers")
    if table + SECTION_SIZE * count > headers.window.size:
        raise Stopped(pe_rules.TRUNCATED, "Image sections overflow section headers")


def _check_hash(headers: Headers) -> None:
    """generate_hash, which is for the TPM here."""
    size = headers.window.size
    if headers.window.get(0, 2) != b"MZ":
        raise Stopped(pe_rules.NOT_PE, "Invalid signature")
    behind = headers.at + 24 + FIXED_SIZE[PE32_PLUS] + 8 * (SECURITY + 1)
    if headers.header_size < behind or headers.header_size > size:
        wide = (headers.header_size - behind & WORD) > size
        text = "Data Directory size" if wide else "Invalid hash size"
        raise Stopped(pe_rules.TRUNCATED, text)
    summed = headers.header_size
    for index, section in enumerate(headers.sections):
        _check_section(headers, index, section)
        if section.raw_size > size - summed:
            raise Stopped(pe_rules.HASH, f"Malformed section {index} size")
        summed += section.raw_size
    for index, section in enumerate(sorted(headers.sections, key=lambda one: one.raw)):
        if section.raw_size and section.raw >= size:
            raise Stopped(pe_rules.TRUNCATED, "Malformed section header")
        if section.raw_size and section.raw_size > size - section.raw:
            raise Stopped(pe_rules.TRUNCATED, f"Malformed section raw size {index}")
    address, length = headers.words_of_directory(SECURITY)
    if size > summed and length and (size - summed < length or size - length != address):
        raise Stopped(pe_rules.HASH, "Malformed binary after Attribute Certificate Table")


def _ends(headers: Headers, section: Section) -> tuple[int, int]:
    """Addresses of the first and last byte, 0 for what is outside (ImageAddress), else not 0."""
    last = section.address + section.size - 1 & WORD
    first = section.address
    return (first + 1 if first < headers.image_size else 0), (last + 1 if last < headers.image_size else 0)


def _check_section(headers: Headers, index: int, section: Section) -> None:
    """get_section_vma."""
    base, end = _ends(headers, section)
    if not section.flags & DISCARDABLE:
        _check_ends(index, base, end)
    low = min(section.address, section.raw) < headers.header_size
    if low and not section.flags & UNINITIALIZED:
        raise Stopped(pe_rules.IN_HEADERS, f"Section {index} is inside image headers")
    if end < base:
        raise Stopped(pe_rules.UNPLACED, f"Section {index} has negative size")


def _check_ends(index: int, base: int, end: int) -> None:
    if not base:
        raise Stopped(pe_rules.UNPLACED, f"Section {index} has invalid base address")
    if not end:
        raise Stopped(pe_rules.UNPLACED, f"Section {index} has zero size")


def _place(headers: Headers, strict: bool) -> tuple[Section | None, list[Section]]:
    """The section of base relocations, and all that hold the entry; they have passed _check_section."""
    relocations = None
    holding = []
    for index, section in enumerate(headers.sections):
        discardable = section.flags & DISCARDABLE
        if (discardable and not section.size) or not section.flags & READ:
            continue
        if strict and not discardable and section.flags & WRITE and section.flags & EXECUTE:
            raise Stopped(pe_rules.NX_COMPAT, f"Section {index} is writable and executable")
        last = section.address + section.size - 1 & WORD
        if section.address <= headers.entry < last:
            holding.append(section)
        if section.name == b".reloc\0\0":
            if relocations is not None:
                raise Stopped(pe_rules.SHIM_RELOC, "Image has multiple relocation sections")
            _check_reloc(headers, section)
            relocations = section
    return (relocations if headers.words_of_directory(BASE_RELOCATIONS)[1] else None), holding


def _check_reloc(headers: Headers, section: Section) -> None:
    base, end = _ends(headers, section)
    address, size = headers.words_of_directory(BASE_RELOCATIONS)
    last = address + size - 1 & WORD
    believed = (
        section.raw_size
        and section.size
        and base
        and end
        and address + 1 == base
        and (last + 1 if last < headers.image_size else 0) <= end
    )
    if not believed:
        raise Stopped(pe_rules.SHIM_RELOC, "Relocation section is invalid")


def _relocate(headers: Headers, section: Section) -> None:
    """relocate_coff: it reads the blocks in the file, whose size it does not ask for."""
    size = headers.words_of_directory(BASE_RELOCATIONS)[1]
    first, last = section.raw, section.raw + size - 1 & WORD
    inside = [at < headers.image_size for at in (first, last)]
    if not any(inside):
        return
    if not all(inside):
        raise Stopped(pe_rules.RELOCATIONS, "Reloc table overflows binary")
    at, number, words = first, 0, 0
    while at < last:
        page, length = headers.window.u32(at), headers.window.u32(at + 4)
        if not length:
            raise Stopped(pe_rules.RELOCATIONS, f"Reloc {number} block size 0 is invalid")
        if length > size:
            raise Stopped(pe_rules.RELOCATIONS, f"Reloc {number} block size {length} greater than reloc dir")
        if at + length > headers.image_size:
            raise Stopped(pe_rules.RELOCATIONS, f"Reloc {number} entry overflows binary")
        if page >= headers.image_size:
            raise Stopped(pe_rules.RELOCATIONS, f"Reloc {number} Invalid fixupbase")
        words += length
        if number >= BLOCKS_MAX or words > WORDS_MAX:
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        data = headers.window.get(at + 8, max(length - 8, 0) + length % 2)
        if not KNOWN.issuperset({byte >> 4 for byte in data[1::2]}):
            raise Stopped(pe_rules.RELOCATIONS, f"Reloc {number} Unknown relocation")
        at += length
        number += 1
