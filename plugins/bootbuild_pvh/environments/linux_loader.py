"""What Firecracker and Cloud Hypervisor share: the crate linux-loader, its low memory, and KVM."""

from __future__ import annotations

import struct
from abc import abstractmethod

from bootbuild.abi import acpi
from bootbuild.abi.handover import HypervisorType
from bootbuild.api import (
    Descriptor,
    ElfImage,
    Evidence,
    InputError,
    Load,
    MapEntry,
    MemoryContent,
    Offer,
    Platform,
    Problem,
    Region,
    RegionKind,
    Rule,
    Span,
    TableRegister,
    Undefined,
)
from bootbuild.platform.flat32 import Poison, flat_state
from bootbuild.platform.loading import MiB, check_fit, mmio, module_bytes, put
from bootbuild_pvh.environments.placing import PlacedModule, Placing, ramdisk
from bootbuild_pvh.environments.profile import UNDEFINED, PvhProfile, Setting

KVM = b"KVMKVMKVM\0\0\0"  #: KVM_SIGNATURE, CPUID leaf 0x40000000

CMDLINE = Rule(
    "BB-L006",
    "command line longer than this monitor takes",
    "Firecracker takes 2048 bytes with the NUL behind them, Cloud Hypervisor 65536 (CMDLINE_MAX_SIZE of "
    "either), and neither starts a kernel with more.",
    "shorten the command line, or leave this profile out of `profiles`",
)


def _gdt_entry(attributes: int, limit: int) -> int:
    """A descriptor of base 0; both programs' gdt_entry."""
    return (attributes & 0xF0FF) << 40 | (limit & 0xF0000) << 32 | limit & 0xFFFF


class LinuxLoaderProfile(PvhProfile):
    """A monitor on KVM whose kernel is loaded by linux-loader, and whose structures lie below 640 KiB.

    linux-loader copies p_filesz bytes of each PT_LOAD and no more: .bss keeps what was there before.
    """

    evidence = Evidence.SOURCE
    hypervisor = HypervisorType.KVM
    undefined = (*UNDEFINED, Undefined(".bss", "BB-U007", by="linux-loader"))
    rules = (*PvhProfile.rules, CMDLINE)

    # layout.rs of either program
    PVH_INFO_START, MODLIST_START, MEMMAP_START, CMDLINE_START = 0x6000, 0x6040, 0x7000, 0x20000
    BOOT_GDT_START, BOOT_IDT_START = 0x500, 0x520
    # regs.rs of either program, configure_segments_and_sregs: null, code, data, TSS
    GDT = (0, _gdt_entry(0xC09B, 0xFFFFFFFF), _gdt_entry(0xC093, 0xFFFFFFFF), _gdt_entry(0x008B, 0x67))

    # -- what differs

    cmdline_max: int  #: bytes, with the NUL
    cr0: int
    rsdp_paddr: int  #: what start_info says
    rsdp_at: int  #: where the RSDP lies
    xsdt_at: int

    @abstractmethod
    def memory_map(self, memory: int) -> tuple[MapEntry, ...]:
        """What start_info's map says of `memory` bytes of RAM."""

    @abstractmethod
    def platform(self) -> Platform:
        """The devices."""

    # -- what does not

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        memory = self.memory_size(image, offer)
        low, main = Span(0, 0xA0000), Span(MiB, memory - MiB)
        check_fit(image, (Span(0, memory),), module_bytes(offer))
        if len(offer.cmdline) >= self.cmdline_max:
            text = f"{len(offer.cmdline)} bytes of command line; this monitor takes {self.cmdline_max - 1}"
            raise InputError(Problem(CMDLINE, image.name, text))
        modules: tuple[PlacedModule, ...] = ()
        if content := ramdisk(image, offer):
            modules = (PlacedModule((memory - content.size) & ~0xFFF, content),)
        state = flat_state(
            entry,
            {"rbx": self.PVH_INFO_START, "rflags": 0x2},
            cr0=self.cr0,
            code=0x08,
            data=0x10,
            tr=Descriptor(0x18, limit=0x67, attributes=0x008B),
            gdtr=TableRegister(self.BOOT_GDT_START, 8 * len(self.GDT) - 1),
            idtr=TableRegister(self.BOOT_IDT_START, 7),
        )
        return Setting(
            regions=(
                Region(low, RegionKind.RAM),
                # memory too, but not offered by the map: system data, ACPI
                Region(Span(low.end, MiB - low.end), RegionKind.RESERVED),
                Region(main, RegionKind.RAM),
                mmio(0xFEC00000),  # I/O APIC
                mmio(0xFEE00000),  # local APIC
            ),
            placing=Placing(
                info=self.PVH_INFO_START,
                cmdline=self.CMDLINE_START,
                modlist=self.MODLIST_START,
                memmap=self.MEMMAP_START,
                rsdp=self.rsdp_paddr,
                memory_map=self.memory_map(memory),
                modules=modules,
            ),
            state=state,
            platform=self.platform(),
            extras=(
                put(self.BOOT_GDT_START, struct.pack("<4Q", *self.GDT)),
                put(self.BOOT_IDT_START, bytes(8)),
                put(self.rsdp_at, acpi.rsdp(self.xsdt_at)),
                put(self.xsdt_at, acpi.xsdt()),
            ),
        )

    def image_loads(self, image: ElfImage, poison: Poison) -> list[Load]:
        """The files' bytes; before them .bss as the memory was: fresh, so zero, or this run's garbage."""
        loads = []
        for segment in image.loads:
            size = segment.memsz - segment.filesz
            garbage = poison.garbage(size) if ".bss" in poison.names else b""
            loads.append(Load(segment.paddr + segment.filesz, MemoryContent(garbage), 0, len(garbage), size))
        return loads + [Load(s.paddr, image.content, s.offset, s.filesz, s.filesz) for s in image.loads]
