"""The data directories that EDK2's loader follows: debug, resources, base relocations. Each may end it.

MdePkg/Library/BasePeCoffLib/BasePeCoff.c: PeCoffLoaderGetImageInfo, -LoadImage, -RelocateImage.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild_loaders import pe_rules, rules
from bootbuild_loaders.pe_headers import BASE_RELOCATIONS, DEBUG, RESOURCE, WORD, Headers, Section, mapped
from bootbuild_loaders.pe_status import LOAD_ERROR, UNSUPPORTED
from bootbuild_loaders.stopped import Stopped

ENTRY_SIZE, CODEVIEW = 28, 2  #: EFI_IMAGE_DEBUG_DIRECTORY_ENTRY, and its type for a debugger's file
SMALLEST = {b"NB10": 16, b"RSDS": 24, b"MTOC": 20}  #: bytes of what begins with this: PeImage.h
TABLE_MAX, BLOCKS_MAX = 8 << 20, 1 << 16  #: of base relocations that are followed
NAMES_MAX = 64  #: of resources
KNOWN = frozenset((0, 1, 2, 3, 10))  #: EFI_IMAGE_REL_BASED_ABSOLUTE, HIGH, LOW, HIGHLOW, DIR64
UNKNOWN_KIND = [kind not in KNOWN for kind in range(16)]


def check_debug(headers: Headers, sections: Sequence[Section]) -> tuple[int, int]:
    """By how many bytes an entry of type CODEVIEW makes the image larger, and the RVA of it or 0."""
    address, size = headers.directory(DEBUG)
    home = next((s for s in sections if 0 <= address - s.address < _u32_size(s)), None)
    offset = address - home.address + home.raw if home else 0
    if not offset:
        return 0, 0
    for index in range(0, size, ENTRY_SIZE):
        entry = headers.window.get(offset + index, ENTRY_SIZE)
        if len(entry) < ENTRY_SIZE:
            raise Stopped(pe_rules.DEBUG, UNSUPPORTED)
        if not headers.window.another():
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        kind, length, rva, pointer = struct.unpack("<4I", entry[12:])
        if kind == CODEVIEW:
            return (length if not rva and pointer else 0), address + index
    return 0, 0


def _u32_size(section: Section) -> int:
    """The range in which EDK2 looks for an RVA: its end is a number of 32 bits."""
    return (section.address + section.size & WORD) - section.address


def check_codeview(headers: Headers, image_size: int, at: int) -> None:
    """The entry in memory, and what it is about."""
    if at >= image_size:
        raise Stopped(pe_rules.DEBUG, LOAD_ERROR)
    length, rva, pointer = struct.unpack("<3I", mapped(headers, at + 16, 12))
    if not rva and pointer:
        last = headers.sections[-1]
        rva = last.address + max(last.size, last.raw_size) & WORD
        data = headers.window.get(pointer, 4)
    else:
        data = mapped(headers, rva, 4)
    if not rva:
        return
    if rva >= image_size:
        raise Stopped(pe_rules.DEBUG, LOAD_ERROR)
    if length < SMALLEST.get(data, 0):
        raise Stopped(pe_rules.DEBUG, UNSUPPORTED)


def check_resources(headers: Headers) -> None:
    """The first directory has room for its entries, and each name of one lies within the whole."""
    address, size = headers.directory(RESOURCE)
    if not size or address >= headers.image_size:
        return
    named, ids = struct.unpack("<2H", mapped(headers, address + 12, 4))
    if 16 + 8 * (named + ids) > size:
        raise Stopped(pe_rules.RESOURCES, UNSUPPORTED)
    if named > NAMES_MAX:
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
    entries = mapped(headers, address + 16, 8 * named)
    for name, _ in struct.iter_unpack("<II", entries):
        if name >> 31 and name & 0x7FFFFFFF >= size:
            raise Stopped(pe_rules.RESOURCES, UNSUPPORTED)
        if name >> 31 and mapped(headers, address + (name & 0x7FFFFFFF), 8) == b"\3\0H\0I\0I\0":
            raise Stopped(rules.NOT_JUDGED, "", "ignore")  # forms for firmware's menus


def check_relocations(headers: Headers, image_size: int, moved: bool) -> None:
    """PeCoffLoaderRelocateImage; only of an image that is moved it reads the blocks."""
    if headers.directory_count < BASE_RELOCATIONS:
        return
    address, size = headers.words_of_directory(BASE_RELOCATIONS)
    last = address + size - 1 & WORD
    if not size:
        return
    if (
        address < image_size and last < address
    ):  # the tag refuses it, Debian's build with its patches does not
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
    if address >= image_size or last >= image_size:
        raise Stopped(pe_rules.RELOCATIONS, LOAD_ERROR)
    if not moved:
        return
    if size > TABLE_MAX:
        raise Stopped(rules.NOT_JUDGED, "", "ignore")
    table = mapped(headers, address, size + 8)
    at = blocks = 0
    while at < size - 1:
        page, length = struct.unpack_from("<II", table, at)
        blocks += 1
        if blocks > BLOCKS_MAX:
            raise Stopped(rules.NOT_JUDGED, "", "ignore")
        if not length or at + length > size or page >= image_size:
            raise Stopped(pe_rules.RELOCATIONS, LOAD_ERROR)
        count = max(length - 8 + 1 >> 1, 0)
        _check_block(struct.unpack_from(f"<{count}H", table, at + 8), page, image_size)
        at += length


def _check_block(words: Sequence[int], page: int, image_size: int) -> None:
    """The first word that is wrong says how."""
    if page + 0xFFF >= image_size or not KNOWN.issuperset({word >> 12 for word in words}):
        for word in words:
            if (page + (word & 0xFFF) & WORD) >= image_size:
                raise Stopped(pe_rules.RELOCATIONS, LOAD_ERROR)
            if UNKNOWN_KIND[word >> 12]:
                raise Stopped(pe_rules.RELOCATIONS, UNSUPPORTED)
