"""hvm_start_info, what a PVH guest is given: Xen's `xen/include/public/arch-x86/hvm/start_info.h`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bootbuild.model.machine import MapEntry

MAGIC = 0x336EC578  #: XEN_HVM_START_MAGIC_VALUE, "xEn3" with the 0x80 bit of the "E" set
SIZE, SIZE_0 = 56, 40  #: bytes of version 1, and of version 0
MODULE_SIZE, MAP_ENTRY_SIZE = 32, 24
SIF_PRIVILEGED, SIF_INITDOMAIN = 1, 2

_V0 = struct.Struct("<IIIIQQQ")
_V1 = struct.Struct("<QII")
_MODULE = struct.Struct("<QQQQ")
_MAP_ENTRY = struct.Struct("<QQII")


@dataclass(frozen=True)
class HvmStartInfo:
    """The structure's fields by their names; addresses physical, 0 means absent."""

    version: int
    flags: int
    nr_modules: int
    modlist_paddr: int
    cmdline_paddr: int
    rsdp_paddr: int
    memmap_paddr: int = 0
    memmap_entries: int = 0

    def pack(self) -> bytes:
        """40 bytes for version 0, which ends before the memory map; 56 for version 1."""
        head = _V0.pack(
            MAGIC,
            self.version,
            self.flags,
            self.nr_modules,
            self.modlist_paddr,
            self.cmdline_paddr,
            self.rsdp_paddr,
        )
        return head + _V1.pack(self.memmap_paddr, self.memmap_entries, 0) if self.version else head


@dataclass(frozen=True)
class HvmModule:
    """One hvm_modlist_entry: physical address, size in bytes, physical address of its command line.

    `reserved` is 0 by the ABI, and what was on the stack by qboot.
    """

    paddr: int
    size: int
    cmdline_paddr: int = 0
    reserved: int = 0


def read_start_info(read: Callable[[int, int], bytes], address: int) -> HvmStartInfo:
    """The structure at `address`, of version 1 what there is of it. `read` raises LookupError without memory.

    Raises ValueError with what is wrong, in words.
    """
    try:
        magic, *head = _V0.unpack(read(address, SIZE_0))
        rest = _V1.unpack(read(address + SIZE_0, SIZE - SIZE_0)) if head[0] else (0, 0, 0)
    except LookupError:
        raise ValueError(f"hvm_start_info would be at {address:#x}, which is not memory") from None
    if magic != MAGIC:
        raise ValueError(f"hvm_start_info at {address:#x} begins with {magic:#x}, not {MAGIC:#x}")
    return HvmStartInfo(*head, *rest[:2])


def unpack_modules(data: bytes) -> tuple[HvmModule, ...]:
    """An array of hvm_modlist_entry."""
    return tuple(HvmModule(*fields) for fields in _MODULE.iter_unpack(data))


def unpack_memory_map(data: bytes) -> tuple[MapEntry, ...]:
    """An array of hvm_memmap_table_entry."""
    return tuple(MapEntry(*fields[:3]) for fields in _MAP_ENTRY.iter_unpack(data))


def pack_modules(modules: Sequence[HvmModule]) -> bytes:
    """The module list as an array of hvm_modlist_entry."""
    return b"".join(_MODULE.pack(m.paddr, m.size, m.cmdline_paddr, m.reserved) for m in modules)


def pack_memory_map(entries: Sequence[MapEntry]) -> bytes:
    """The memory map as an array of hvm_memmap_table_entry."""
    return b"".join(_MAP_ENTRY.pack(e.address, e.size, e.type, 0) for e in entries)
