"""What UEFI leaves behind when its boot services are gone: memory, its two maps, the system table.

The firmware is OVMF on QEMU's machine q35. Its memory lies at fixed distances from the end of RAM, and in
three places at the low end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from bootbuild.abi import acpi
from bootbuild.model.machine import Load, MapEntry, Region, RegionKind
from bootbuild.model.span import Span, holes
from bootbuild.platform.loading import ACPI, NVS, RAM, RESERVED, MiB, mmio, put
from bootbuild.platform.pc import Pc
from bootbuild.platform.seabios import TCG, VENDOR
from bootbuild.platform.uefi import smbios

PAGE = 4096
DESCRIPTOR_SIZE, DESCRIPTOR_VERSION = 48, 1  #: bytes: OVMF's are larger than the 40 that the structure has
_DESCRIPTOR = struct.Struct("<I4x4Q8x")
_RUNTIME = 1 << 63  #: EFI_MEMORY_RUNTIME
_CACHES = 0xF  #: UC, WC, WT, WB


class MemoryType(IntEnum):
    """EFI_MEMORY_TYPE, UEFI 2.10 §7.2."""

    RESERVED = 0
    LOADER_CODE = 1
    LOADER_DATA = 2
    BOOT_SERVICES_CODE = 3
    BOOT_SERVICES_DATA = 4
    RUNTIME_CODE = 5
    RUNTIME_DATA = 6
    CONVENTIONAL = 7
    ACPI_RECLAIM = 9
    ACPI_NVS = 10
    MMIO = 11


#: types of which the memory is anybody's, once the boot services are gone
FREE = frozenset(
    {
        MemoryType.LOADER_CODE,
        MemoryType.LOADER_DATA,
        MemoryType.BOOT_SERVICES_CODE,
        MemoryType.BOOT_SERVICES_DATA,
        MemoryType.CONVENTIONAL,
    }
)
_RUNTIME_CODE = 20  #: as GRUB's map says it (GRUB_MEMORY_CODE)
#: ACPI's address range types: drivers/firmware/efi/libstub/x86-stub.c, setup_e820
MAP_TYPES: dict[int, int] = {
    **dict.fromkeys(FREE, RAM),
    MemoryType.RESERVED: RESERVED,
    MemoryType.RUNTIME_CODE: RESERVED,
    MemoryType.RUNTIME_DATA: RESERVED,
    MemoryType.ACPI_RECLAIM: ACPI,
    MemoryType.ACPI_NVS: NVS,
    MemoryType.MMIO: RESERVED,
}
_GRUB_TYPES = MAP_TYPES | {MemoryType.RUNTIME_CODE: _RUNTIME_CODE}


class Descriptor(NamedTuple):
    """EFI_MEMORY_DESCRIPTOR: a physical range of whole pages."""

    type: int  #: a MemoryType, or what a program invented
    span: Span

    @property
    def attributes(self) -> int:
        """What OVMF says of such memory."""
        runtime = _RUNTIME if self.type in (MemoryType.RUNTIME_CODE, MemoryType.RUNTIME_DATA) else 0
        if self.type == MemoryType.MMIO:
            return _RUNTIME | 1
        return runtime | (
            1 if self.type == MemoryType.RESERVED and self.span.start >= 0xB0000000 else _CACHES
        )

    def pack(self) -> bytes:
        """Its bytes, DESCRIPTOR_SIZE of them."""
        return _DESCRIPTOR.pack(self.type, self.span.start, 0, self.span.size // PAGE, self.attributes)


# Bytes below the end of RAM, number of pages, type: what is not free afterwards; 2022.11 has them so
_HIGH = (
    (0x1560000, 258, MemoryType.RUNTIME_DATA),
    (0xB14000, 256, MemoryType.RUNTIME_DATA),
    (0xA14000, 256, MemoryType.RUNTIME_CODE),
    (0x914000, 128, MemoryType.RESERVED),
    (0x894000, 18, MemoryType.ACPI_RECLAIM),
    (0x882000, 128, MemoryType.ACPI_NVS),
    (0x10C000, 132, MemoryType.RUNTIME_DATA),
    (0x88000, 136, MemoryType.ACPI_NVS),
)
_LOW = (
    Descriptor(MemoryType.ACPI_NVS, Span(0x806000, 2 * PAGE)),
    Descriptor(MemoryType.ACPI_NVS, Span(0x810000, 240 * PAGE)),
)
_FAR = (
    Descriptor(MemoryType.RESERVED, Span(0xB0000000, 0x10000000)),  # MMCONFIG
    Descriptor(MemoryType.MMIO, Span(0xFFC00000, 0x400000)),  # flash
)
_EARLY = Span(0x900000, 0xC00000)  #: boot services' from the first on, PEI included
_SERVICES = 0x448B000  #: bytes below the end of RAM, from where on boot services and loaders have all
# Bytes below the end of RAM, number of pages: what they leave free, beside a GRUB of less than 1 MiB
_BETWEEN = ((0x4400000, 10028), (0x1C22000, 179), (0x1AD1000, 21), (0x1ABA000, 6), (0x200000, 129))
_TABLE = 0xA14FE8  #: bytes below the end of RAM: the system table, in runtime data
_SERVICES_TABLE, _CONFIGURATION = 0xB80, 0xC80  #: bytes behind it
_VENDOR_NAME = 0xAD55E8  #: bytes below the end of RAM
_ACPI_TABLES = 0x882000 + 0x2000  #: bytes below the end of RAM
RSDT, XSDT = 0x74, 0xE8  #: bytes behind that
_OLD_RSDP, _RSDP = 0x883000, 0x882FEC  #: bytes below the end of RAM
_SMBIOS, _STRUCTURES = 0xAE0000, 0xAE1000  #: bytes below the end of RAM: entry point and structures
_SMBIOS_TABLE = bytes.fromhex("312d9deb882dd3119a160090273fc14d")  #: SMBIOS_TABLE_GUID
_ACPI_10 = bytes.fromhex("302d9deb882dd3119a160090273fc14d")  #: EFI_ACPI_TABLE_GUID
_ACPI_20 = bytes.fromhex("71e86888f1e4d311bc220080c73c8881")  #: EFI_ACPI_20_TABLE_GUID
_RUNTIME_SERVICES = 14  #: functions that EFI_RUNTIME_SERVICES has, UEFI 2.10 §4.5


@dataclass(frozen=True)
class Ovmf:
    """`qemu-system-x86_64 -M q35 -m … -cpu max -nodefaults` with OVMF; `memory` in bytes, at most 2 GiB."""

    memory: int

    @property
    def kept(self) -> tuple[Descriptor, ...]:
        """What is not free when the boot services are gone, in ascending order."""
        high = (Descriptor(kind, Span(self.memory - below, pages * PAGE)) for below, pages, kind in _HIGH)
        return (*_LOW, *high, *_FAR)

    @property
    def ram(self) -> tuple[Span, ...]:
        """Memory that anybody may use afterwards, in ascending order."""
        used = [descriptor.span for descriptor in self.kept]
        return (Span(0, 0xA0000), *holes(Span(MiB, self.memory - MiB), used))

    @property
    def conventional(self) -> tuple[Span, ...]:
        """What of it is nobody's while a loader runs that has taken a quarter of it, as GRUB does."""
        pages = self.memory // PAGE - 10604
        heap = self.memory - _SERVICES - pages // 4 * PAGE
        low = [part for span in self.ram for part in holes(span, [_EARLY]) if part.start < heap]
        return (*low[:-1], replace(low[-1], size=heap - low[-1].start))

    @property
    def between(self) -> tuple[Span, ...]:
        """What is nobody's above that, between the pieces of boot services, in ascending order."""
        return tuple(Span(self.memory - below, pages * PAGE) for below, pages in _BETWEEN)

    @property
    def memory_map(self) -> tuple[MapEntry, ...]:
        """What GRUB makes of UEFI's map: neighbours of one kind as one entry."""
        found = [(span.start, span.size, RAM) for span in self.ram]
        found += [(d.span.start, d.span.size, _GRUB_TYPES[d.type]) for d in self.kept]
        return tuple(MapEntry(*entry) for entry in sorted(found))

    def descriptors(self, loaded: Iterable[Span]) -> tuple[Descriptor, ...]:
        """UEFI's own map, where a loader has `loaded` these whole pages of conventional memory.

        What lies between the pieces of boot services at the end of RAM is not told from them.
        """
        loaded = tuple(loaded)
        data = [Descriptor(MemoryType.LOADER_DATA, span) for span in loaded]
        free = [
            Descriptor(MemoryType.CONVENTIONAL, hole)
            for span in self.conventional
            for hole in holes(span, loaded)
        ]
        known = [d.span for d in (*data, *free, *self.kept)]
        services = [
            Descriptor(MemoryType.BOOT_SERVICES_DATA, hole)
            for span in self.ram
            for hole in holes(span, known)
        ]
        return tuple(sorted((*data, *free, *services, *self.kept), key=lambda d: d.span))

    @property
    def regions(self) -> tuple[Region, ...]:
        """What answers at which address."""
        reserved = (d for d in self.kept if d.span.end <= self.memory)
        return (
            *(Region(span, RegionKind.RAM) for span in self.ram),
            *(Region(d.span, _region_kind(d.type)) for d in reserved),
            mmio(0xA0000, 0x20000),  # VGA
            Region(Span(0xC0000, 0x40000), RegionKind.ROM),
            mmio(0xB0000000, 0x10000000),
            mmio(0xFEC00000),  # I/O APIC
            mmio(0xFED00000),  # HPET
            mmio(0xFED1C000, 0x4000),  # root complex
            mmio(0xFEE00000),  # local APIC
            Region(Span(0xFFC00000, 0x400000), RegionKind.ROM),
        )

    @property
    def system_table(self) -> int:
        """Physical address of the EFI_SYSTEM_TABLE."""
        return self.memory - _TABLE

    @property
    def rsdp_address(self) -> int:
        """Physical address of the ACPI root pointer of revision 2."""
        return self.memory - _RSDP

    @property
    def rsdp(self) -> bytes:
        """The ACPI root pointer, revision 2."""
        tables = self.memory - _ACPI_TABLES
        return acpi.rsdp(tables + XSDT, rsdt=tables + RSDT, oem=b"BOCHS ")

    @property
    def old_rsdp(self) -> bytes:
        """The one of revision 0."""
        return acpi.old_rsdp(self.memory - _ACPI_TABLES, b"BOCHS ")

    def tables(self, services: bytes = b"", alive: Sequence[int] = (0,) * 7) -> tuple[Load, ...]:
        """System table, runtime services, and all tables that it lists, as ExitBootServices() leaves them.

        UEFI 2.10 §4.3: the fields of what is gone are 0. Each service's code is INT3: none can be called from
        32-bit code without paging. `services`: pointers to other code. `alive`: those fields: handle and
        protocol of input, output and errors, and the boot services.
        """
        at, code = self.system_table, self.memory - 0xA14000
        found = {
            _SMBIOS_TABLE: self.memory - _SMBIOS,
            _ACPI_10: self.memory - _OLD_RSDP,
            _ACPI_20: self.memory - _RSDP,
        }
        structures = smbios.structures(self.memory)
        functions = (code + 16 * number for number in range(_RUNTIME_SERVICES))
        services = services or struct.pack(f"<{_RUNTIME_SERVICES}Q", *functions)
        runtime = with_crc(struct.pack("<8s4I", b"RUNTSERV", 0x20046, 136, 0, 0) + services)
        system = with_crc(
            struct.pack("<8s4I", b"IBI SYST", 0x20046, 120, 0, 0)
            + struct.pack("<QI4x6Q", self.memory - _VENDOR_NAME, 0x10000, *alive[:6])
            + struct.pack("<4Q", at + _SERVICES_TABLE, alive[6], len(found), at + _CONFIGURATION)
        )
        tables = self.memory - _ACPI_TABLES
        return (
            put(at, system),
            put(at + _SERVICES_TABLE, runtime),
            put(self.memory - _VENDOR_NAME, "EDK II\0".encode("utf-16-le")),
            put(at + _CONFIGURATION, b"".join(guid + struct.pack("<Q", to) for guid, to in found.items())),
            put(code, b"\xcc" * (16 * _RUNTIME_SERVICES)),
            put(self.memory - _STRUCTURES, b"".join(structures)),
            put(found[_SMBIOS_TABLE], smbios.entry_point(self.memory - _STRUCTURES, structures)),
            put(found[_ACPI_10], self.old_rsdp),
            put(found[_ACPI_20], self.rsdp),
            put(tables + RSDT, acpi.rsdt()),
            put(tables + XSDT, acpi.xsdt()),
        )

    def platform(self) -> Pc:
        """The devices."""
        return Pc(pm1_control=0x604, hypervisor=TCG, vendor=VENDOR)


def _region_kind(kind: int) -> RegionKind:
    return RegionKind.RAM if kind == MemoryType.ACPI_RECLAIM else RegionKind.RESERVED


def with_crc(table: bytes) -> bytes:
    """A table whose header has the CRC-32 of all of it (UEFI 2.10 §4.2)."""
    return table[:16] + struct.pack("<I", zlib.crc32(table)) + table[20:]
