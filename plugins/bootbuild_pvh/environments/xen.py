"""Xen: a PVH domain that xl built, and a PVH dom0 that the hypervisor built itself."""

from __future__ import annotations

from bootbuild.abi import acpi
from bootbuild.abi.handover import HypervisorType
from bootbuild.abi.hvm_start_info import (
    MODULE_SIZE,
    SIF_INITDOMAIN,
    SIF_PRIVILEGED,
    SIZE,
)
from bootbuild.api import (
    Descriptor,
    ElfImage,
    EntryState,
    Evidence,
    MapEntry,
    Offer,
    Platform,
    Region,
    RegionKind,
    Span,
    Undefined,
    align_up,
)
from bootbuild.platform import XenDomain, XenHvm
from bootbuild.platform.flat32 import Poison, flat_state
from bootbuild.platform.loading import (
    ACPI,
    RAM,
    RESERVED,
    UNUSABLE,
    MiB,
    check_fit,
    mmio,
    module_bytes,
    one_module,
    put,
    ramdisk,
)
from bootbuild_pvh.environments.placing import PlacedModule, Placing
from bootbuild_pvh.environments.profile import UNDEFINED, PvhProfile, Setting

_ARGUMENTS = "hypercall arguments"  #: what their registers have after the call


class _XenProfile(PvhProfile):
    """What both kinds of domain share: Xen sets what pvh.pandoc names, and zeroes the rest."""

    version = "4.17"
    evidence = Evidence.ORACLE
    hypervisor = HypervisorType.XEN
    undefined = (*UNDEFINED, Undefined(_ARGUMENTS, "BB-U008", by="Xen"))

    def poisoned_platform(self, platform: Platform, poison: Poison) -> Platform:
        assert isinstance(platform, XenHvm)
        if _ARGUMENTS not in poison.names:
            return platform
        return platform.clobbering(poison.pick(_ARGUMENTS, 0, 0xDEADBEEFDEADF00D, 0x5EED0B0B5EED0B0B))

    @staticmethod
    def _state(entry: int, info: int, fs_gs: Descriptor | None = None) -> EntryState:
        tr = Descriptor(0, limit=0x67, attributes=0x008B)
        return flat_state(entry, {"rbx": info, "rflags": 0x2}, code=0, data=0, fs_gs=fs_gs, tr=tr)

    @staticmethod
    def _platform(
        domid: int, memory_map: tuple[MapEntry, ...], *, console: tuple[int, int], store: tuple[int, int]
    ) -> Platform:
        """`console`, `store`: frame number and event channel of each ring, (0, 0) for none."""
        return XenHvm(
            XenDomain(
                domid=domid,
                version=(4, 17),
                extra_version=".7",
                memory_map=memory_map,
                console_frame=console[0],
                console_port=console[1],
                store_frame=store[0],
                store_port=store[1],
                privileged=domid == 0,
            )
        )


class XenDomU(_XenProfile):
    """`xl create` of a `type = "pvh"` domain: everything lies where libxenguest puts it."""

    name = "xen-domu"
    loader = "xen-xl"
    source = "tools/libs/guest/xg_dom_x86.c; dumped in a real domU under Xen 4.17.7 (tests/oracles)"
    summary = "Xen, unprivileged PVH domain built by xl"

    _SPECIAL = Span(0xFEFF8000, 0x8000)  #: X86_HVM_END_SPECIAL_REGION - X86_HVM_NR_SPECIAL_PAGES
    _CONSOLE, _STORE = 7, 4  #: SPECIALPAGE_CONSOLE, SPECIALPAGE_XENSTORE
    _STORE_PORT, _CONSOLE_PORT = 1, 2
    _MODULES_MAX, _MODULE_CMDLINE_SIZE = 2, 1024  #: HVMLOADER_MODULE_MAX_COUNT, HVMLOADER_MODULE_CMDLINE_SIZE
    _RSDP, _ACPI_INFO, _ACPI_TABLES = 0xFC008000, Span(0xFC000000, 0x1000), Span(0xFC001000, 0x7000)

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        memory = self.memory_size(image, offer)
        ram = Span(0, memory)
        check_fit(image, (ram,), module_bytes(offer) + 0x4000)
        at = align_up(image.physical_end, 4096)
        modules: tuple[PlacedModule, ...] = ()
        if content := ramdisk(image, offer):
            modules = (PlacedModule(at, content),)
            at = align_up(at + content.size, 4096)

        # one block: start_info, command line, room for two modules and their strings, memory map
        cmdline = at + SIZE
        modlist = cmdline + (align_up(len(offer.cmdline) + 1, 8) if offer.cmdline else 0)
        placing = Placing(
            info=at,
            cmdline=cmdline if offer.cmdline else 0,
            modlist=modlist,
            memmap=modlist + self._MODULES_MAX * (MODULE_SIZE + self._MODULE_CMDLINE_SIZE),
            rsdp=self._RSDP,
            memory_map=(
                MapEntry(0, memory, RAM),
                MapEntry(self._SPECIAL.start, self._SPECIAL.size, RESERVED),
                MapEntry(self._RSDP, 0x40, ACPI),
                MapEntry(self._ACPI_INFO.start, self._ACPI_INFO.size, ACPI),
                MapEntry(self._ACPI_TABLES.start, self._ACPI_TABLES.size, ACPI),
            ),
            modules=modules,
        )
        first = self._SPECIAL.start >> 12
        return Setting(
            regions=(
                Region(ram, RegionKind.RAM),
                Region(self._SPECIAL, RegionKind.RAM),
                Region(Span(0xFC000000, 0x9000), RegionKind.RAM),  # ACPI, type 3: reclaimable RAM
                mmio(0xFEE00000),  # local APIC
            ),
            placing=placing,
            state=self._state(entry, at, Descriptor(0, limit=0, attributes=0)),
            platform=self._platform(
                1,
                placing.memory_map,
                console=(first + self._CONSOLE, self._CONSOLE_PORT),
                store=(first + self._STORE, self._STORE_PORT),
            ),
            extras=(
                put(self._SPECIAL.start, bytes(self._SPECIAL.size)),  # the toolstack clears its pages
                put(self._RSDP, acpi.rsdp(self._ACPI_TABLES.start)),
                put(self._ACPI_TABLES.start, acpi.xsdt()),
            ),
        )


class XenDom0(_XenProfile):
    """`dom0=pvh dom0_mem=…` on a PC of 384 MiB more (QEMU q35 with an IOMMU): the control domain.

    Memory and its map are dom0's part of the machine's, so the map differs from host to host.
    """

    name = "xen-dom0"
    loader = "xen-libelf"
    source = (
        "xen/arch/x86/hvm/dom0_build.c; dumped in a real dom0 under Xen 4.17.7 on QEMU q35 (tests/oracles)"
    )
    summary = "Xen, PVH dom0 built by the hypervisor"

    _LOW_PAGES = 0x9F  #: whole pages below the EBDA
    _XEN = 384 * MiB  #: of the host's memory that dom0 does not get
    memory_limit = 0xB0000000 - _XEN  # the host's memory ends below its MMCONFIG
    # Sizes of the tables that pvh_setup_acpi makes for one CPU on q35: MADT, XSDT with 3 entries, RSDP
    _MADT, _XSDT, _RSDP = 0x7A, 0x3C, 0x24

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        memory = self.memory_size(image, offer)
        low = Span(0, self._LOW_PAGES << 12)
        main = Span(MiB, memory - low.size)
        xsdt = main.end - self._MADT - self._XSDT
        rsdp = xsdt - self._RSDP
        top = memory + self._XEN
        memory_map = (
            MapEntry(low.start, low.size, RAM),
            MapEntry(0x9FC00, 0x400, RESERVED),
            MapEntry(0xF0000, 0x10000, RESERVED),
            MapEntry(main.start, rsdp - main.start, RAM),
            # pvh_add_mem_range of 4.17 moves the start of this entry for the second and third table, and
            # does not grow it: the end of the MADT is in no entry
            MapEntry(rsdp, self._MADT, ACPI),
            MapEntry(main.end, top - 0x20000 - main.end, UNUSABLE),
            MapEntry(top - 0x20000, 0x20000, RESERVED),
            MapEntry(0xB0000000, 0x10000000, RESERVED),  # MMCONFIG
            MapEntry(0xFED1C000, 0x4000, RESERVED),
            MapEntry(0xFFFC0000, 0x40000, RESERVED),
            MapEntry(0xFD00000000, 0x300000000, RESERVED),
        )
        placing = self._place(image, offer, (low, main), rsdp, memory_map)
        return Setting(
            regions=(
                Region(low, RegionKind.RAM),
                Region(Span(low.end, 0xA0000 - low.end), RegionKind.RESERVED),  # EBDA
                mmio(0xA0000, 0x20000),  # VGA
                Region(Span(0xC0000, 0x40000), RegionKind.ROM),  # the host's, mapped as it is
                Region(main, RegionKind.RAM),
                Region(Span(top - 0x20000, 0x20000), RegionKind.RESERVED),  # the host's ACPI tables
                mmio(0xFEC00000),  # I/O APIC
                mmio(0xFEE00000),  # local APIC
            ),
            placing=placing,
            state=self._state(entry, placing.info),
            platform=self._platform(0, memory_map, console=(0, 0), store=(0, 0)),
            extras=(put(rsdp, acpi.rsdp(xsdt)), put(xsdt, acpi.xsdt())),
        )

    def _place(
        self,
        image: ElfImage,
        offer: Offer,
        ram: tuple[Span, Span],
        rsdp: int,
        memory_map: tuple[MapEntry, ...],
    ) -> Placing:
        """pvh_load_kernel: module and its string, command line, module list, start_info, in one range."""
        word = image.bits // 8
        module = one_module(image, offer)
        cmdline_size = align_up(len(offer.cmdline) + 1, word)
        need = SIZE + cmdline_size
        if module:
            need += MODULE_SIZE + align_up(module[0].size, 4096)
        at = _find_memory(image, ram[1], need)
        check_fit(image, ram, need if at >= image.physical_end else 0)
        modules: tuple[PlacedModule, ...] = ()
        if module:
            content, text = module
            string = at + align_up(content.size, word)
            modules = (PlacedModule(at, content, text, string),)
            at = align_up(string + len(text) + 1, 4096)
        modlist = at + cmdline_size
        return Placing(
            info=modlist + MODULE_SIZE * len(modules),
            cmdline=at,
            modlist=modlist,
            memmap=0,
            rsdp=rsdp,
            memory_map=memory_map,
            modules=modules,
            flags=SIF_PRIVILEGED | SIF_INITDOMAIN,
        )


def _find_memory(image: ElfImage, main: Span, size: int) -> int:
    """find_memory of dom0_build.c: from the larger part of `main` beside the kernel, if `size` fits there."""
    first = min(segment.paddr for segment in image.loads) & ~0xFFF
    last = align_up(image.physical_end, 4096)
    below = first - main.start
    return main.start if below > main.end - last and below >= size else last
