"""Firecracker and Cloud Hypervisor on KVM: machines without firmware, whose low memory is laid out alike."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

from bootbuild.abi import acpi
from bootbuild.errors import InputError, Problem
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Load, MapEntry, Offer, Region, RegionKind
from bootbuild.model.payload import ElfImage
from bootbuild.model.span import Span
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.loading import RAM, RESERVED, MiB, mmio, put
from bootbuild.platform.pc import Pc, ReducedAcpi
from bootbuild.platform.rules import CMDLINE

KVM = b"KVMKVMKVM\0\0\0"  #: KVM_SIGNATURE, CPUID leaf 0x40000000
# layout.rs of either program
GDT_AT, IDT_AT = 0x500, 0x520
ZERO_PAGE, CMDLINE_AT = 0x7000, 0x20000
STACK = 0x8FF0  #: BOOT_STACK_POINTER


def gdt_entry(attributes: int, limit: int) -> int:
    """A descriptor of base 0; both programs' gdt_entry."""
    return (attributes & 0xF0FF) << 40 | (limit & 0xF0000) << 32 | limit & 0xFFFF


# regs.rs of either program, configure_segments_and_sregs: null, code, data, TSS
GDT_32 = (0, gdt_entry(0xC09B, 0xFFFFFFFF), gdt_entry(0xC093, 0xFFFFFFFF), gdt_entry(0x008B, 0x67))


class Vmm(ABC):
    """What differs between the two."""

    cmdline_max: int  #: bytes, with the NUL
    rsdp_at: int  #: where the RSDP lies
    xsdt_at: int

    @abstractmethod
    def memory_map(self, memory: int) -> tuple[MapEntry, ...]:
        """What a kernel is told of `memory` bytes of RAM."""

    @abstractmethod
    def platform(self) -> Pc:
        """The devices."""

    def regions(self, memory: int) -> tuple[Region, ...]:
        """What answers at which address."""
        return (
            Region(Span(0, 0xA0000), RegionKind.RAM),
            # memory too, but not offered by the map: system data, ACPI
            Region(Span(0xA0000, MiB - 0xA0000), RegionKind.RESERVED),
            Region(Span(MiB, memory - MiB), RegionKind.RAM),
            mmio(0xFEC00000),  # I/O APIC
            mmio(0xFEE00000),  # local APIC
        )

    def tables(self, gdt: Sequence[int]) -> tuple[Load, ...]:
        """The descriptor tables and ACPI."""
        return (
            put(GDT_AT, struct.pack(f"<{len(gdt)}Q", *gdt)),
            put(IDT_AT, bytes(8)),
            put(self.rsdp_at, acpi.rsdp(self.xsdt_at)),
            put(self.xsdt_at, acpi.xsdt()),
        )

    def check_cmdline(self, image: ElfImage, offer: Offer) -> None:
        """Raises InputError (BB-L006)."""
        if len(offer.cmdline) >= self.cmdline_max:
            text = f"{len(offer.cmdline)} bytes of command line; this monitor takes {self.cmdline_max - 1}"
            raise InputError(Problem(CMDLINE, image.name, text))


class Firecracker(Vmm):
    """Firecracker 1.16: a serial port, a keyboard controller for the reset, and little else."""

    cmdline_max = 2048  # CMDLINE_MAX_SIZE
    rsdp_at = 0xE0000  # RSDP_ADDR
    xsdt_at = 0xA0000  # somewhere in SYSTEM_MEM, behind the MP table

    SYSTEM_MEM_START = 0x9FC00
    PCI_MMCONFIG = (0xEEC00000, 0x10000000)  #: 256 MiB below the I/O APIC

    def memory_map(self, memory: int) -> tuple[MapEntry, ...]:
        return (
            MapEntry(0, self.SYSTEM_MEM_START, RAM),
            MapEntry(self.SYSTEM_MEM_START, self.rsdp_at - self.SYSTEM_MEM_START, RESERVED),
            MapEntry(*self.PCI_MMCONFIG, RESERVED),
            MapEntry(MiB, memory - MiB, RAM),
        )

    def platform(self) -> Pc:
        # a port that nothing has reads zeros (vcpu.rs, run_arch_emulation); status: SB_KBD_ENABLED
        return Pc(keyboard=0x10, reset_control=False, absent=0, hypervisor=KVM)


class CloudHypervisor(Vmm):
    """Cloud Hypervisor 53: hardware-reduced ACPI at port 0x600, and a debug port at 0x80."""

    cmdline_max = 0x10000  # CMDLINE_MAX_SIZE
    rsdp_at = 0xA0000  # RSDP_POINTER = EBDA_START
    xsdt_at = 0xA0000 + acpi.RSDP_SIZE

    EBDA_START, EBDA_POINTER = 0xA0000, 0x40E
    PCI_MMCONFIG = (0xE8000000, 0x10000000)  #: behind 640 MiB of devices from 3 GiB
    ACPI_SHUTDOWN = 0x600

    def memory_map(self, memory: int) -> tuple[MapEntry, ...]:
        return (
            MapEntry(0, self.EBDA_START, RAM),
            MapEntry(MiB, memory - MiB, RAM),
            MapEntry(*self.PCI_MMCONFIG, RESERVED),
        )

    def platform(self) -> Pc:
        shutdown = ReducedAcpi("io", self.ACPI_SHUTDOWN, self.ACPI_SHUTDOWN, 1)
        return Pc(keyboard=0, reset_control=False, acpi=shutdown, debug_port=0x80, hypervisor=KVM)

    def tables(self, gdt: Sequence[int]) -> tuple[Load, ...]:
        ebda = put(self.EBDA_POINTER, (self.EBDA_START >> 4).to_bytes(2, "little"))  # configure_system
        return (*super().tables(gdt), ebda)


def elf_loads(image: ElfImage, poison: Poison) -> list[Load]:
    """What linux-loader puts into memory: p_filesz bytes of each PT_LOAD and no more.

    Before them .bss as the memory was: fresh, so zero, or this run's garbage.
    """
    loads = []
    for segment in image.loads:
        size = segment.memsz - segment.filesz
        garbage = poison.garbage(size) if ".bss" in poison.names else b""
        loads.append(Load(segment.paddr + segment.filesz, MemoryContent(garbage), 0, len(garbage), size))
    return loads + [Load(s.paddr, image.content, s.offset, s.filesz, s.filesz) for s in image.loads]
