"""QEMU's machine pc under SeaBIOS: its memory, the map of it, and what the firmware has written there."""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild.abi import acpi
from bootbuild.model.machine import Load, MapEntry, Region, RegionKind
from bootbuild.model.span import Span
from bootbuild.platform.loading import RAM, RESERVED, MiB, Overwritten, mmio, put
from bootbuild.platform.pc import Pc

LOW = Span(0, 0xA0000)
EBDA = 0x9FC00
SHADOW = Overwritten(Span(0xC0000, 0x40000), "option ROMs and SeaBIOS are there, read-only")
RSDP = 0xF59D0
OEM = b"BOCHS "  #: of QEMU's ACPI
TCG, VENDOR = b"TCGTCGTCGTCG", b"AuthenticAMD"  #: CPUID of -cpu max
PM1_CONTROL = 0x604
_ACPI = 0x20000  #: bytes at the end of RAM that SeaBIOS keeps for ACPI tables
# SeaBIOS keeps a zone at the top of RAM (malloc_preinit in src/malloc.c) and works right below it. Scanned
# with 2 to 128 MiB: the zone has 256 KiB, from 33 MiB of RAM on 16 MiB.
_HIGH_ZONE, _LARGE_HIGH_ZONE, _RELOCATED = 0x40000, 16 * MiB, 0x1E000


@dataclass(frozen=True)
class SeabiosPc:
    """`qemu-system-x86_64 -M pc -m … -cpu max -nodefaults`; `memory` in bytes, no more than 3 GiB."""

    memory: int

    @property
    def top(self) -> int:
        """End of the RAM that the map offers."""
        return self.memory - _ACPI

    @property
    def ram(self) -> tuple[Span, Span]:
        """What the map offers, the extended BIOS data area included."""
        return LOW, Span(MiB, self.top - MiB)

    @property
    def memory_map(self) -> tuple[MapEntry, ...]:
        """As INT 15h, E820 answers."""
        return (
            MapEntry(0, EBDA, RAM),
            MapEntry(EBDA, 0x400, RESERVED),
            MapEntry(0xF0000, 0x10000, RESERVED),
            MapEntry(MiB, self.top - MiB, RAM),
            MapEntry(self.top, _ACPI, RESERVED),
            MapEntry(0xFFFC0000, 0x40000, RESERVED),
            MapEntry(0xFD00000000, 0x300000000, RESERVED),  # AMD HyperTransport hole
        )

    @property
    def acpi(self) -> tuple[Load, ...]:
        """The root pointer, of revision 0, and the least that it may point to."""
        return put(RSDP, acpi.old_rsdp(RSDP + 0x30, OEM)), put(RSDP + 0x30, acpi.rsdt())

    @property
    def regions(self) -> tuple[Region, ...]:
        """What answers at which address."""
        return (
            Region(LOW, RegionKind.RAM),
            mmio(0xA0000, 0x20000),  # VGA
            Region(SHADOW.span, RegionKind.ROM),
            Region(self.ram[1], RegionKind.RAM),
            Region(Span(self.top, _ACPI), RegionKind.RESERVED),
            mmio(0xFEC00000),  # I/O APIC
            mmio(0xFED00000),  # HPET
            mmio(0xFEE00000),  # local APIC
            Region(Span(0xFFFC0000, 0x40000), RegionKind.ROM),  # flash
        )

    @property
    def relocated(self) -> Overwritten:
        """Where SeaBIOS runs while it initialises."""
        zone = self.memory - (_LARGE_HIGH_ZONE if self.memory > 2 * _LARGE_HIGH_ZONE else _HIGH_ZONE)
        return Overwritten(Span(zone - _RELOCATED, _RELOCATED), "SeaBIOS runs there")

    def platform(self) -> Pc:
        """The devices."""
        return Pc(pm1_control=PM1_CONTROL, hypervisor=TCG, vendor=VENDOR)
