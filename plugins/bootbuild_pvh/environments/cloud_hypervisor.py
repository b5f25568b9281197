"""Cloud Hypervisor: a KVM monitor with hardware-reduced ACPI at port 0x600 and a debug port at 0x80."""

from __future__ import annotations

from bootbuild.platform import vmm as machines
from bootbuild_pvh.environments.linux_loader import LinuxLoaderProfile


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

    vmm = machines.CloudHypervisor()
    cr0 = 0x1  # CR0_PE alone; a CPU reads ET as 1 all the same
    rsdp_paddr = machines.CloudHypervisor.rsdp_at
