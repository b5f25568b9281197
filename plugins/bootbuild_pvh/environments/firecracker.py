"""Firecracker: a KVM monitor with a serial port, a keyboard controller for the reset, and little else."""

from __future__ import annotations

from bootbuild.api import MapEntry, Platform
from bootbuild.platform import Pc
from bootbuild.platform.loading import RAM, RESERVED, MiB
from bootbuild_pvh.environments.linux_loader import KVM, LinuxLoaderProfile


class Firecracker(LinuxLoaderProfile):
    """`firecracker` with an ELF `kernel_image_path`: PVH since 1.12, where the kernel has the note.

    start_info has no RSDP, though there is one: a guest scans 0xE0000–0xFFFFF for it. The reset of the
    keyboard controller is the way to end; ACPI has no sleep registers.
    """

    name = loader = "firecracker"
    version = "1.16.1"
    source = (
        "firecracker v1.16.1: src/vmm/src/arch/x86_64/{layout,mod,regs,gdt}.rs, device_manager/legacy.rs, "
        "devices/legacy/i8042.rs; linux-loader v0.13.2: src/loader/elf/mod.rs"
    )
    summary = "Firecracker on KVM"

    cmdline_max = 2048  # CMDLINE_MAX_SIZE
    cr0 = 0x11  # X86_CR0_PE | X86_CR0_ET
    rsdp_paddr = 0  # configure_pvh leaves the default
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

    def platform(self) -> Platform:
        # a port that nothing has reads zeros (vcpu.rs, run_arch_emulation); status: SB_KBD_ENABLED
        return Pc(keyboard=0x10, reset_control=False, absent=0, hypervisor=KVM)
