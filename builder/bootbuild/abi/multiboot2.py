"""The Multiboot2 information structure: tags, 8-byte aligned. Multiboot2 2.0 §3.6, GRUB's multiboot2.h."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from bootbuild.model.machine import MapEntry

MAGIC = 0x36D76289  #: in EAX; §3.3
ALIGN = 8  #: bytes, of the structure and of each tag in it
HEADER_SIZE, TAG_SIZE = 8, 8  #: bytes: total size and a reserved word; a tag's type and size

_WORDS = struct.Struct("<II")
_MAP_ENTRY = struct.Struct("<QQII")
MAP_HEADER_SIZE, MAP_ENTRY_SIZE = 8, _MAP_ENTRY.size  #: bytes before the map's entries, in its tag's body


class TagType(IntEnum):
    """MULTIBOOT_TAG_TYPE_*."""

    END = 0
    CMDLINE = 1
    LOADER_NAME = 2
    MODULE = 3
    MEMORY = 4  #: basic_meminfo
    BOOT_DEVICE = 5
    MEMORY_MAP = 6
    VBE = 7
    FRAMEBUFFER = 8
    ELF_SECTIONS = 9
    APM = 10
    EFI32 = 11
    EFI64 = 12
    SMBIOS = 13
    ACPI_OLD = 14
    ACPI_NEW = 15
    NETWORK = 16
    EFI_MEMORY_MAP = 17
    EFI_BOOT_SERVICES = 18
    EFI32_IMAGE_HANDLE = 19
    EFI64_IMAGE_HANDLE = 20
    LOAD_BASE = 21


@dataclass(frozen=True)
class Tag:
    """One tag: its type, and its bytes behind type and size."""

    type: int
    body: bytes = b""


@dataclass(frozen=True)
class Multiboot2Module:
    """A module: physical addresses of its first byte and behind its last, and its string."""

    start: int
    end: int
    cmdline: bytes


@dataclass(frozen=True)
class EfiMemoryMap:
    """EFI's own map: `descriptors` as GetMemoryMap() left them, each of `descriptor_size` bytes."""

    descriptor_size: int
    descriptor_version: int
    descriptors: bytes


@dataclass(frozen=True)
class Multiboot2Info:
    """The structure as its tags, in order, without the one that ends them."""

    tags: tuple[Tag, ...]

    def pack(self) -> bytes:
        """Its bytes, which belong at a multiple of 8."""
        body = b"".join(map(_packed, (*self.tags, Tag(TagType.END))))
        return _WORDS.pack(HEADER_SIZE + len(body), 0) + body

    @classmethod
    def unpack(cls, data: bytes) -> Multiboot2Info:
        """Read the structure that `data` begins with. ValueError for one that is cut off or has no end."""
        if len(data) < HEADER_SIZE:
            raise ValueError(f"{len(data)} bytes are no Multiboot2 information")
        tags: list[Tag] = []
        total, at = _WORDS.unpack_from(data)[0], HEADER_SIZE
        if total > len(data):
            raise ValueError(f"the information has {total} bytes, of which {len(data)} are there")
        while at + TAG_SIZE <= total:
            kind, size = _WORDS.unpack_from(data, at)
            if size < TAG_SIZE or at + size > total:
                raise ValueError(f"tag {kind} at byte {at} says {size} bytes; the information has {total}")
            if kind == TagType.END:
                return cls(tuple(tags))
            tags.append(Tag(kind, data[at + TAG_SIZE : at + size]))
            at += -(-size // ALIGN) * ALIGN
        raise ValueError(f"the tags do not end within the {total} bytes of the information")

    def offset(self, kind: int) -> int:
        """Offset in bytes of the body of the first tag of a type. LookupError when there is none."""
        at = HEADER_SIZE
        for tag in self.tags:
            if tag.type == kind:
                return at + TAG_SIZE
            at += len(_packed(tag))
        raise LookupError(kind)

    def body(self, kind: int) -> bytes | None:
        """The body of the first tag of a type; None when there is none."""
        return next((tag.body for tag in self.tags if tag.type == kind), None)

    @property
    def cmdline(self) -> bytes | None:
        """The kernel's command line, without its NUL."""
        return _string(self.body(TagType.CMDLINE))

    @property
    def loader_name(self) -> bytes | None:
        """What the boot loader calls itself, without the NUL."""
        return _string(self.body(TagType.LOADER_NAME))

    @property
    def modules(self) -> tuple[Multiboot2Module, ...]:
        """Every module, in order."""
        return tuple(_module(tag.body) for tag in self.tags if tag.type == TagType.MODULE)

    @property
    def memory_map(self) -> tuple[MapEntry, ...]:
        """The entries of the memory map; () without one. Each entry may be longer than we know."""
        body = self.body(TagType.MEMORY_MAP)
        if body is None:
            return ()
        step = _WORDS.unpack_from(body)[0]
        if step < MAP_ENTRY_SIZE:
            raise ValueError(f"entries of {step} bytes in the memory map; the least is {MAP_ENTRY_SIZE}")
        places = range(MAP_HEADER_SIZE, len(body) - MAP_ENTRY_SIZE + 1, step)
        return tuple(MapEntry(*_MAP_ENTRY.unpack_from(body, at)[:3]) for at in places)

    @property
    def rsdp(self) -> bytes | None:
        """The copy of the ACPI root pointer: the newer one where there are both."""
        return self.body(TagType.ACPI_NEW) or self.body(TagType.ACPI_OLD)

    @property
    def efi_system_table(self) -> int:
        """Physical address; 0 when not started by 64-bit EFI."""
        return int.from_bytes(self.body(TagType.EFI64) or b"", "little")

    @property
    def efi_memory_map(self) -> EfiMemoryMap | None:
        """EFI's map; None without it."""
        body = self.body(TagType.EFI_MEMORY_MAP)
        if body is None:
            return None
        size, version = _WORDS.unpack_from(body)
        return EfiMemoryMap(size, version, body[8:])


def cmdline_tag(text: bytes) -> Tag:
    """The kernel's command line."""
    return Tag(TagType.CMDLINE, text + b"\0")


def loader_name_tag(text: bytes) -> Tag:
    """What the boot loader calls itself."""
    return Tag(TagType.LOADER_NAME, text + b"\0")


def module_tag(start: int, end: int, cmdline: bytes = b"") -> Tag:
    """A module between two physical addresses, and its string."""
    return Tag(TagType.MODULE, _WORDS.pack(start, end) + cmdline + b"\0")


def memory_tag(lower: int, upper: int) -> Tag:
    """Memory below 640 KiB and above 1 MiB, in KiB."""
    return Tag(TagType.MEMORY, _WORDS.pack(lower, upper))


def boot_device_tag(biosdev: int, partition: int = 0xFFFFFFFF, inner: int = 0xFFFFFFFF) -> Tag:
    """BIOS drive, partition and the one inside it; all ones for none."""
    return Tag(TagType.BOOT_DEVICE, struct.pack("<III", biosdev, partition, inner))


def memory_map_tag(entries: Sequence[MapEntry]) -> Tag:
    """The memory map, in entries of version 0."""
    packed = b"".join(_MAP_ENTRY.pack(e.address, e.size, e.type, 0) for e in entries)
    return Tag(TagType.MEMORY_MAP, _WORDS.pack(MAP_ENTRY_SIZE, 0) + packed)


def elf_sections_tag(number: int, entry_size: int, names: int, headers: bytes) -> Tag:
    """The kernel's section headers; `names` is the index of their string table."""
    return Tag(TagType.ELF_SECTIONS, struct.pack("<III", number, entry_size, names) + headers)


def efi64_tag(system_table: int) -> Tag:
    """Physical address of the EFI_SYSTEM_TABLE."""
    return Tag(TagType.EFI64, struct.pack("<Q", system_table))


def efi64_image_handle_tag(handle: int) -> Tag:
    """The EFI_HANDLE of the loader's own image, which is a pointer."""
    return Tag(TagType.EFI64_IMAGE_HANDLE, struct.pack("<Q", handle))


def efi_memory_map_tag(found: EfiMemoryMap) -> Tag:
    """EFI's memory map."""
    head = _WORDS.pack(found.descriptor_size, found.descriptor_version)
    return Tag(TagType.EFI_MEMORY_MAP, head + found.descriptors)


def load_base_tag(address: int) -> Tag:
    """Physical address of the image's lowest byte."""
    return Tag(TagType.LOAD_BASE, struct.pack("<I", address))


def _packed(tag: Tag) -> bytes:
    size = TAG_SIZE + len(tag.body)
    return _WORDS.pack(tag.type, size) + tag.body + bytes(-size % ALIGN)


def _module(body: bytes) -> Multiboot2Module:
    start, end = _WORDS.unpack_from(body)
    return Multiboot2Module(start, end, body[8:].partition(b"\0")[0])


def _string(body: bytes | None) -> bytes | None:
    return None if body is None else body.partition(b"\0")[0]
