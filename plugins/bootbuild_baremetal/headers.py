"""Multiboot headers: what a kernel asks of its loader, as it is written and as it is read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from bootbuild.api import AddressOf, HeaderSpec

# Multiboot 0.6.96 §3.1, GRUB's include/multiboot.h
MAGIC_1, ALIGN_1, SEARCH_1 = 0x1BADB002, 4, 8192
PAGE_ALIGN, MEMORY_INFO, VIDEO_MODE, ADDRESSES = 1, 2, 4, 1 << 16
REQUIRED_1 = 0xFFFF  #: flags of which a loader must understand each that is set
LAST_START_1 = 8192 - 48 - 4  #: the highest offset at which QEMU looks (hw/i386/multiboot.c)

# Multiboot2 2.0 §3.1, GRUB's include/multiboot2.h
MAGIC_2, ALIGN_2, SEARCH_2 = 0xE85250D6, 8, 32768
I386 = 0  #: architecture
OPTIONAL = 1  #: flag of a tag
M32 = (1 << 32) - 1

_WORDS_1 = struct.Struct("<3I")
_HEAD_2 = struct.Struct("<4I")
_TAG = struct.Struct("<HHI")


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


MEMORY_MAP = 6  #: MULTIBOOT_TAG_TYPE_MMAP, of the information


def header_1(flags: int) -> HeaderSpec:
    """A Multiboot 1 header without addresses: the file is ELF, and entered at e_entry."""
    data = _WORDS_1.pack(MAGIC_1, flags, -(MAGIC_1 + flags) & M32)
    return HeaderSpec(data, ALIGN_1, LAST_START_1 + len(data))


@dataclass(frozen=True)
class Tag:
    """One tag of a Multiboot2 header: what follows its type, flags and size; an address comes first."""

    type: int
    flags: int = 0
    body: bytes = b""
    address: AddressOf | None = None


def header_2(tags: Sequence[Tag]) -> HeaderSpec:
    """A Multiboot2 header of these tags, and the one that ends them."""
    body, fields = bytearray(), []
    for tag in (*tags, Tag(HeaderTag.END)):
        if tag.address is not None:
            fields.append((_HEAD_2.size + len(body) + _TAG.size, tag.address))
        contents = tag.body if tag.address is None else bytes(tag.address.size) + tag.body
        body += _TAG.pack(tag.type, tag.flags, _TAG.size + len(contents)) + contents
        body += bytes(-len(body) % ALIGN_2)
    size = _HEAD_2.size + len(body)
    head = _HEAD_2.pack(MAGIC_2, I386, size, -(MAGIC_2 + I386 + size) & M32)
    return HeaderSpec(head + bytes(body), ALIGN_2, SEARCH_2, tuple(fields))
