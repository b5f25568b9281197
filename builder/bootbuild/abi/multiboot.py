"""multiboot_info, what a Multiboot kernel is given: Multiboot 0.6.96 §3.3, GRUB's include/multiboot.h."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from bootbuild.model.machine import MapEntry

MAGIC = 0x2BADB002  #: in EAX; §3.2
SIZE = 116  #: bytes with the framebuffer's fields, which came in 0.6.96
SIZE_WITHOUT_FRAMEBUFFER = 88  #: what older loaders, QEMU's among them, write
MODULE_SIZE, MAP_ENTRY_SIZE = 16, 24
MAP_ENTRY_REST = 20  #: an entry's first field: its size in bytes without that field

# MULTIBOOT_INFO_*: which fields hold something
MEMORY, BOOT_DEVICE, CMDLINE, MODULES, AOUT_SYMBOLS, ELF_SECTIONS = 1, 2, 4, 8, 0x10, 0x20
MEMORY_MAP, DRIVES, CONFIG_TABLE, LOADER_NAME, APM, VBE, FRAMEBUFFER = (1 << bit for bit in range(6, 13))

_INFO = struct.Struct("<7I4I2I2I3I2I4HQ3I2B6s")
_MODULE = struct.Struct("<4I")
_MAP_ENTRY = struct.Struct("<IQQI")


@dataclass(frozen=True)
class MultibootInfo:
    """The structure's fields by their names and in its order; addresses physical, `mem_*` in KiB.

    A field whose bit is not in `flags` means nothing. `elf_num` … `elf_shndx` are an ELF kernel's section
    headers, or an a.out kernel's symbols.
    """

    flags: int
    mem_lower: int = 0
    mem_upper: int = 0
    boot_device: int = 0
    cmdline: int = 0
    mods_count: int = 0
    mods_addr: int = 0
    elf_num: int = 0
    elf_size: int = 0
    elf_addr: int = 0
    elf_shndx: int = 0
    mmap_length: int = 0
    mmap_addr: int = 0
    drives_length: int = 0
    drives_addr: int = 0
    config_table: int = 0
    boot_loader_name: int = 0
    apm_table: int = 0
    vbe_control_info: int = 0
    vbe_mode_info: int = 0
    vbe_mode: int = 0
    vbe_interface_seg: int = 0
    vbe_interface_off: int = 0
    vbe_interface_len: int = 0
    framebuffer_addr: int = 0
    framebuffer_pitch: int = 0
    framebuffer_width: int = 0
    framebuffer_height: int = 0
    framebuffer_bpp: int = 0
    framebuffer_type: int = 0
    color_info: bytes = bytes(6)

    def pack(self, size: int = SIZE) -> bytes:
        """The first `size` bytes of it."""
        return _INFO.pack(*astuple(self))[:size]

    @classmethod
    def unpack(cls, data: bytes) -> MultibootInfo:
        """Read it; what `data` is too short for is 0. ValueError without even the flags."""
        if len(data) < 4:
            raise ValueError(f"{len(data)} bytes are no Multiboot information")
        return cls(*_INFO.unpack(data[:SIZE].ljust(SIZE, b"\0")))


@dataclass(frozen=True)
class MultibootModule:
    """One entry of the module list: physical addresses of its first byte, behind its last, of its string."""

    start: int
    end: int
    cmdline: int = 0
    reserved: int = 0


def pack_modules(modules: Sequence[MultibootModule]) -> bytes:
    """The module list as `mods_addr` leads to it."""
    return b"".join(_MODULE.pack(m.start, m.end, m.cmdline, m.reserved) for m in modules)


def unpack_modules(data: bytes) -> tuple[MultibootModule, ...]:
    """The entries of a module list, of which `data` holds a whole number. ValueError otherwise."""
    if len(data) % MODULE_SIZE:
        raise ValueError(f"{len(data)} bytes are no list of modules of {MODULE_SIZE} bytes")
    return tuple(MultibootModule(*fields) for fields in _MODULE.iter_unpack(data))


def pack_memory_map(entries: Sequence[MapEntry]) -> bytes:
    """The memory map as `mmap_addr` leads to it."""
    return b"".join(_MAP_ENTRY.pack(MAP_ENTRY_REST, e.address, e.size, e.type) for e in entries)


def unpack_memory_map(data: bytes) -> tuple[MapEntry, ...]:
    """The entries of a map, each of which says its own size. ValueError for one that is cut off."""
    entries, at = [], 0
    while at < len(data):
        if len(data) - at < MAP_ENTRY_SIZE:
            raise ValueError(f"the map's entry at byte {at} is cut off")
        size, address, length, kind = _MAP_ENTRY.unpack_from(data, at)
        if size < MAP_ENTRY_REST:
            raise ValueError(f"the map's entry at byte {at} says {size} bytes, not {MAP_ENTRY_REST}")
        entries.append(MapEntry(address, length, kind))
        at += 4 + size
    return tuple(entries)
