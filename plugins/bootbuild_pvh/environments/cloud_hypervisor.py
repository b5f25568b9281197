"""Cloud Hypervisor: a KVM monitor with hardware-reduced ACPI at port 0x600 and a debug port at 0x80."""

from __future__ import annotations

from dataclasses import replace

from bootbuild.abi import acpi
from bootbuild.api import ElfImage, MapEntry, Offer, Platform
from bootbuild.platform import Pc, ReducedAcpi
from bootbuild.platform.loading import RAM, RESERVED, MiB, put
from bootbuild_pvh.environments.linux_loader import KVM, LinuxLoaderProfile
from bootbuild_pvh.environments.profile import Setting


class CloudHypervisor(LinuxLoaderProfile):
    """`cloud-hypervisor --kernel FILE --serial tty`: PVH is its only way to start an ELF file."""

    name = loader = "cloud-hypervisor"
    version = "53.0"
    source = (
        "cloud-hypervisor v53.0: arch/src/x86_64/{layout,mod,regs}.rs, hypervisor/src/arch/x86/gdt.rs, "
        "vmm/src/{acpi,device_manager}.rs, devices/src/{acpi.rs,legacy/}; linux-loader v0.13.2: "
        "src/loader/elf/mod.rs"
    )
    summary = "Cloud Hypervisor on KVM"

    cmdline_max = 0x10000  # CMDLINE_MAX_SIZE
    cr0 = 0x1  # CR0_PE alone; a CPU reads ET as 1 all the same
    rsdp_paddr = rsdp_at = 0xA0000  # RSDP_POINTER = EBDA_START
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

    def platform(self) -> Platform:
        shutdown = ReducedAcpi("io", self.ACPI_SHUTDOWN, self.ACPI_SHUTDOWN, 1)
        return Pc(keyboard=0, reset_control=False, acpi=shutdown, debug_port=0x80, hypervisor=KVM)

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        setting = super().setting(image, entry, offer)
        ebda = put(self.EBDA_POINTER, (self.EBDA_START >> 4).to_bytes(2, "little"))  # configure_system
        return replace(setting, extras=(*setting.extras, ebda))
