"""Firecracker: a KVM monitor with a serial port, a keyboard controller for the reset, and little else."""

from __future__ import annotations

from bootbuild.platform import vmm as machines
from bootbuild_pvh.environments.linux_loader import LinuxLoaderProfile


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

    vmm = machines.Firecracker()
    cr0 = 0x11  # X86_CR0_PE | X86_CR0_ET
    rsdp_paddr = 0  # configure_pvh leaves the default
