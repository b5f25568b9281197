"""What Firecracker and Cloud Hypervisor share: the crate linux-loader, its low memory, and KVM."""

from __future__ import annotations

from bootbuild.abi.handover import HypervisorType
from bootbuild.api import Descriptor, ElfImage, Evidence, Load, Offer, Span, TableRegister, Undefined
from bootbuild.platform.flat32 import Poison, flat_state
from bootbuild.platform.loading import check_fit, module_bytes, ramdisk
from bootbuild.platform.rules import CMDLINE
from bootbuild.platform.vmm import CMDLINE_AT, GDT_32, GDT_AT, IDT_AT, Vmm, elf_loads
from bootbuild_pvh.environments.placing import PlacedModule, Placing
from bootbuild_pvh.environments.profile import UNDEFINED, PvhProfile, Setting


class LinuxLoaderProfile(PvhProfile):
    """A monitor on KVM whose kernel is loaded by linux-loader, and whose structures lie below 640 KiB.

    linux-loader copies p_filesz bytes of each PT_LOAD and no more: .bss keeps what was there before.
    """

    evidence = Evidence.SOURCE
    hypervisor = HypervisorType.KVM
    undefined = (*UNDEFINED, Undefined(".bss", "BB-U007", by="linux-loader"))
    rules = (*PvhProfile.rules, CMDLINE)

    # layout.rs of either program
    PVH_INFO_START, MODLIST_START, MEMMAP_START = 0x6000, 0x6040, 0x7000

    # -- what differs

    vmm: Vmm
    cr0: int
    rsdp_paddr: int  #: what start_info says

    # -- what does not

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        memory = self.memory_size(image, offer)
        check_fit(image, (Span(0, memory),), module_bytes(offer))
        self.vmm.check_cmdline(image, offer)
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
            gdtr=TableRegister(GDT_AT, 8 * len(GDT_32) - 1),
            idtr=TableRegister(IDT_AT, 7),
        )
        return Setting(
            regions=self.vmm.regions(memory),
            placing=Placing(
                info=self.PVH_INFO_START,
                cmdline=CMDLINE_AT,
                modlist=self.MODLIST_START,
                memmap=self.MEMMAP_START,
                rsdp=self.rsdp_paddr,
                memory_map=self.vmm.memory_map(memory),
                modules=modules,
            ),
            state=state,
            platform=self.vmm.platform(),
            extras=self.vmm.tables(GDT_32),
        )

    def image_loads(self, image: ElfImage, poison: Poison) -> list[Load]:
        return elf_loads(image, poison)
