"""Multiboot headers as they are written: what a kernel asks of its loader."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from bootbuild.api import AddressOf, HeaderSpec, Loaded

M32 = (1 << 32) - 1

# Multiboot 0.6.96 §3.1, GRUB's include/multiboot.h
MAGIC_1, ALIGN_1, SEARCH_1 = 0x1BADB002, 4, 8192
PAGE_ALIGN, MEMORY_INFO, VIDEO_MODE, ADDRESSES = 1, 2, 4, 1 << 16
REQUIRED_1 = 0xFFFF  #: flags of which a loader must understand each that is set
LAST_START_1 = SEARCH_1 - 48 - ALIGN_1  #: the highest offset at which QEMU looks (hw/i386/multiboot.c)

# Multiboot2 2.0 §3.1, GRUB's include/multiboot2.h
MAGIC_2, ALIGN_2, SEARCH_2 = 0xE85250D6, 8, 32768
I386 = 0  #: architecture
OPTIONAL = 1  #: flag of a tag
WHOLE_FILE = M32  #: load_addr of the address tag: the file is loaded from its start
MEMORY_MAP = 6  #: MULTIBOOT_TAG_TYPE_MMAP, of the information

WORDS_1 = struct.Struct("<3I")  #: magic, flags, checksum
ADDRESSES_1 = struct.Struct("<5I")  #: header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr
HEAD_2 = struct.Struct("<4I")  #: magic, architecture, header_length, checksum
TAG = struct.Struct("<HHI")  #: type, flags, size
_VIDEO = struct.Struct("<4I")


class HeaderTag(IntEnum):
    """MULTIBOOT_HEADER_TAG_*."""

    END = 0
    INFORMATION_REQUEST = 1
    ADDRESS = 2
    ENTRY_ADDRESS = 3
    CONSOLE_FLAGS = 4
    FRAMEBUFFER = 5
    MODULE_ALIGN = 6
    EFI_BOOT_SERVICES = 7
    ENTRY_ADDRESS_EFI32 = 8
    ENTRY_ADDRESS_EFI64 = 9
    RELOCATABLE = 10


PREFERENCES = {"any": 0, "low": 1, "high": 2}  #: MULTIBOOT_LOAD_PREFERENCE_*


@dataclass(frozen=True)
class VideoMode:
    """A graphical mode that is asked for; 0 is no preference."""

    width: int = 0  #: pixels
    height: int = 0
    depth: int = 0  #: bits of a pixel


def header_1(flags: int, video: VideoMode | None = None, entry: str = "") -> HeaderSpec:
    """A Multiboot 1 header: the file is ELF, and entered at e_entry.

    With `entry`, the symbol of a stub, it has addresses: the file is loaded as one piece, from the header on.
    """
    flags |= (VIDEO_MODE if video else 0) | (ADDRESSES if entry else 0)
    data = WORDS_1.pack(MAGIC_1, flags, -(MAGIC_1 + flags) & M32)
    fields: tuple[AddressOf | Loaded, ...] = ()
    if entry:
        fields = (Loaded.START, Loaded.START, Loaded.END, Loaded.BSS_END, AddressOf(entry))
    if entry or video is not None:
        data += bytes(ADDRESSES_1.size)
    if video is not None:  # mode_type 0: linear graphics
        data += _VIDEO.pack(0, video.width, video.height, video.depth)
    places = range(WORDS_1.size, WORDS_1.size + ADDRESSES_1.size, 4)
    return HeaderSpec(data, ALIGN_1, LAST_START_1 + len(data), tuple(zip(places, fields, strict=False)))


@dataclass(frozen=True)
class Tag:
    """One tag of a Multiboot2 header: what follows its type, flags and size; an address comes first."""

    type: int
    flags: int = 0
    body: bytes = b""
    address: AddressOf | None = None


def framebuffer_tag(video: VideoMode) -> Tag:
    """A wish for a graphical mode: a loader without one starts the kernel all the same."""
    return Tag(HeaderTag.FRAMEBUFFER, OPTIONAL, struct.pack("<3I", video.width, video.height, video.depth))


def relocatable_tag(least: int, most: int, align: int, preference: int) -> Tag:
    """Leave to put the kernel where its loader likes: bounds (physical), a power of two, a Preference."""
    return Tag(HeaderTag.RELOCATABLE, body=struct.pack("<4I", least, most, align, preference))


def request_tag(*types: int) -> Tag:
    """The tags of the information that the kernel cannot do without."""
    return Tag(HeaderTag.INFORMATION_REQUEST, body=struct.pack(f"<{len(types)}I", *types))


def header_2(tags: Sequence[Tag]) -> HeaderSpec:
    """A Multiboot2 header of these tags, and the one that ends them."""
    body, fields = bytearray(), []
    for tag in (*tags, Tag(HeaderTag.END)):
        if tag.address is not None:
            fields.append((HEAD_2.size + len(body) + TAG.size, tag.address))
        contents = tag.body if tag.address is None else bytes(tag.address.size) + tag.body
        body += TAG.pack(tag.type, tag.flags, TAG.size + len(contents)) + contents
        body += bytes(-len(body) % ALIGN_2)
    size = HEAD_2.size + len(body)
    head = HEAD_2.pack(MAGIC_2, I386, size, -(MAGIC_2 + I386 + size) & M32)
    return HeaderSpec(head + bytes(body), ALIGN_2, SEARCH_2, tuple(fields))
