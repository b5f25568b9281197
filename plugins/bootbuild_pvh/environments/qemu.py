"""QEMU's own PVH loader, on machine pc (SeaBIOS and the option ROM pvh.bin) and on microvm (qboot)."""

from __future__ import annotations

import struct

from bootbuild.abi import acpi
from bootbuild.abi.handover import HypervisorType
from bootbuild.abi.hvm_start_info import MAP_ENTRY_SIZE
from bootbuild.api import (
    ElfImage,
    EntryState,
    Evidence,
    Load,
    MapEntry,
    Offer,
    Region,
    RegionKind,
    Span,
    TableRegister,
)
from bootbuild.platform import Pc, ReducedAcpi
from bootbuild.platform.flat32 import Poison, flat_state
from bootbuild.platform.loading import (
    NVS,
    RAM,
    RESERVED,
    RESET_TR,
    MiB,
    Overwritten,
    check_fit,
    mmio,
    module_bytes,
    put,
    ramdisk,
)
from bootbuild.platform.seabios import EBDA, LOW, RSDP, SHADOW, TCG, VENDOR, SeabiosPc
from bootbuild_pvh.environments.placing import PlacedModule, Placing
from bootbuild_pvh.environments.profile import PvhProfile, Setting

_HEADERS = 0x1000  #: bytes in which ELF and program headers lie


class _QemuProfile(PvhProfile):
    """What both machines share: the loader in QEMU, and firmware that leaves the CPU to the kernel."""

    version = "7.2"
    loader = "qemu"
    evidence = Evidence.ORACLE
    hypervisor = HypervisorType.TCG
    shadow: Overwritten  #: of the firmware, which is there when the kernel starts, whatever was loaded

    def image_loads(self, image: ElfImage, poison: Poison) -> list[Load]:
        """As rom_add_elf_program puts them at reset, without the ELF header where firmware overwrites it.

        By ld's own script a kernel at 1 MiB has it right below, in the BIOS shadow, and does not miss it.
        """
        return [
            load for load in map(self._without_header, super().image_loads(image, poison)) if load.memsz > 0
        ]

    def _without_header(self, load: Load) -> Load:
        if load.address not in self.shadow.span or load.content.read(load.offset, 4) != b"\x7fELF":
            return load
        lost = min(_HEADERS, self.shadow.span.end - load.address)
        size, memsz = max(0, load.size - lost), load.memsz - lost
        return Load(load.address + lost, load.content, load.offset + lost, size, memsz)

    @staticmethod
    def _initrd(image: ElfImage, offer: Offer, limit: int, reserved: int = 0) -> tuple[PlacedModule, ...]:
        """Where x86_load_linux (hw/i386/x86.c) puts -initrd: as high below `limit` as whole pages allow."""
        content = ramdisk(image, offer)
        if content is None:
            return ()
        return (PlacedModule((limit - 1 - content.size) & ~0xFFF, content, reserved=reserved),)

    @staticmethod
    def _state(entry: int, info: int, left: dict[str, int], gdtr: TableRegister, idt: int) -> EntryState:
        """`left`: what the firmware's code has in the registers; `idt`: the limit of its IDT at 0."""
        registers = {"rbx": info, "rcx": entry, "rflags": 0x6, **left}
        return flat_state(
            entry, registers, code=0x08, data=0x10, tr=RESET_TR, gdtr=gdtr, idtr=TableRegister(0, idt)
        )


# pvh.bin's own: null, 32-bit code, 32-bit data, 16-bit code, 16-bit data (read in QEMU 7.2's pvh.bin)
_PVH_BIN_GDT = struct.pack(
    "<5Q", 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF, 0x00009E000000FFFF, 0x000092000000FFFF
)


# What SeaBIOS and pvh.bin write below 640 KiB, wherever the image lies: BIOS data, the option ROM's count of
# e820 entries, both stacks, and the memory for initialisation that startBoot (src/post.c) clears. Scanned.
_PC_LOW = (
    Overwritten(Span(0, 0x500), "SeaBIOS keeps interrupt vectors and BIOS data there"),
    Overwritten(Span(0x5A0, 8), "pvh.bin counts the memory map there"),
    Overwritten(Span(0x6700, 0x900), "SeaBIOS and pvh.bin have their stacks there"),
    Overwritten(Span(0x7000, 0x89000), "SeaBIOS clears what it used there", zeroed=True),
    Overwritten(Span(EBDA, 0x400), "SeaBIOS keeps the extended BIOS data there"),
)


class Qemu(_QemuProfile):
    """`qemu-system-x86_64 -M pc -cpu max -nodefaults -kernel FILE`: SeaBIOS and the pvh.bin option ROM.

    The size of memory and `-smp` change nothing of the entry state. Devices with an option ROM of their own
    (`-vga std`, a network card) move pvh.bin behind theirs, and with it the table in GDTR.
    """

    name = "qemu"
    source = "registers, hvm_start_info and memory dumped under QEMU 7.2.22 -nodefaults (tests/oracles)"
    summary = "QEMU, machine pc (SeaBIOS and pvh.bin)"

    shadow = SHADOW
    _INFO, _MODLIST, _CMDLINE, _MEMMAP = 0x21E0, 0x21C0, 0x11C0, 0x5A8

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        memory = self.memory_size(image, offer)
        pc = SeabiosPc(memory)
        high = Span(SHADOW.span.start, pc.top - SHADOW.span.start)
        check_fit(image, (LOW, high), module_bytes(offer) + 0x29000)
        placing = Placing(
            info=self._INFO,
            cmdline=self._CMDLINE,
            modlist=self._MODLIST,
            memmap=self._MEMMAP,
            rsdp=RSDP,
            memory_map=pc.memory_map,
            modules=self._initrd(image, offer, memory - 0x28000),  # acpi_data_size of hw/i386/pc.c
        )
        left = {"rdx": 0x518, "rsi": self._CMDLINE, "rdi": 0x6EF4, "rsp": 0x6EDC}
        return Setting(
            regions=pc.regions,
            placing=placing,
            state=self._state(entry, self._INFO, left, TableRegister(0xC0118, 0x27), 0x3FF),
            platform=pc.platform(),
            extras=(
                *pc.acpi,
                put(0xC0118, _PVH_BIN_GDT),
            ),
            overwritten=(*_PC_LOW, SHADOW, pc.relocated),
        )


# qboot's own, in the last bytes of its ROM: null, 32-bit code and data, 16-bit code at 0xF0000 and data at 0
_QBOOT_GDT = struct.pack(
    "<5Q", 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x000F9B0F0000FFFF, 0x000F93000000FFFF
)


# What qboot writes below 640 KiB. Scanned: at 0 there are 8 KiB that begin as the file does, and go on with
# what looks like memory of QEMU's own; its stack ends at 0x7C00; the MP tables take the EBDA.
_MICROVM_LOW = (
    Overwritten(Span(0, 0x2000), "qboot reads the file's first 8 KiB to 0"),
    Overwritten(Span(0x7500, 0x700), "qboot has its stack there"),
    Overwritten(Span(EBDA, 0x400), "qboot puts the MP tables there"),
)


class QemuMicrovm(_QemuProfile):
    """`qemu-system-x86_64 -M microvm -cpu max -nodefaults -serial … -kernel FILE`: qboot.

    ACPI is hardware-reduced. qboot keeps start_info in its own .bss in the BIOS shadow, and takes memory for
    command line and map from 0xF0000 downwards, below the ACPI tables.
    """

    name = "qemu-microvm"
    source = (
        "registers, hvm_start_info and memory dumped under QEMU 7.2.22 -nodefaults, with its qboot.rom "
        "(tests/oracles)"
    )
    summary = "QEMU, machine microvm (qboot)"

    shadow = Overwritten(Span(0xF0000, 0x10000), "qboot is there, with all that it uses")
    _INFO, _MODLIST, _RSDP = 0xF31E0, 0x7B7C, 0xF34D0  # the module list is on qboot's stack
    _ACPI = 0xEFC80  #: the lowest of the ACPI tables of a machine with one serial port
    _TABLES = Overwritten(Span(_ACPI, 0xF0000 - _ACPI), "qboot puts the ACPI tables there")
    _GDT = 0xFFFFFFC1
    _RESERVED = 0x965000000  #: what was on the stack where qboot does not fill hvm_modlist_entry.reserved
    _GED = 0xFEA00200  #: GED_MMIO_BASE_REGS of hw/i386/microvm.h

    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        memory = self.memory_size(image, offer)
        check_fit(image, (Span(0, memory),), module_bytes(offer))
        memory_map = (
            MapEntry(0, EBDA, RAM),
            MapEntry(EBDA, 0x400, RESERVED),
            MapEntry(0xD0000, 0x20000, NVS),
            MapEntry(0xF0000, 0x10000, RESERVED),
            MapEntry(MiB, memory - MiB, RAM),
            MapEntry(0, 0, 0),  # qboot counts one entry more than it fills (main.c, extract_e820)
        )
        cmdline = (self._ACPI - len(offer.cmdline) - 1) & ~0xF
        placing = Placing(
            info=self._INFO,
            cmdline=cmdline,
            modlist=self._MODLIST,
            memmap=cmdline - MAP_ENTRY_SIZE * len(memory_map) & ~0xF,
            rsdp=self._RSDP,
            memory_map=memory_map,
            modules=self._initrd(image, offer, memory, self._RESERVED),
        )
        left = {
            "rax": 0x2BADB002,  # as for Multiboot (fw_cfg.c, boot_pvh_from_fw_cfg)
            "rdx": 0x511,  # the data port of fw_cfg
            "rsi": placing.memmap,
            "rdi": cmdline,
            "rbp": len(memory_map),
            "rsp": 0x7B60,
        }
        return Setting(
            regions=(
                # all of it is RAM: QEMU leaves the BIOS shadow writable (x86_bios_rom_init, isapc_ram_fw)
                Region(Span(0, memory), RegionKind.RAM),
                mmio(0xFEA00000),  # generic event device
                mmio(0xFEB00000, 0x3000),  # virtio-mmio
                mmio(0xFEC00000),  # I/O APIC
                mmio(0xFEC10000),  # the second one
                mmio(0xFEE00000),  # local APIC
                Region(Span(0xFFFF0000, 0x10000), RegionKind.ROM),  # flash
            ),
            placing=placing,
            state=self._state(entry, self._INFO, left, TableRegister(self._GDT, 0x27), 0xFFFF),
            platform=Pc(
                keyboard=None,
                reset_control=False,
                acpi=ReducedAcpi("memory", self._GED, self._GED + 2, 0x42),
                hypervisor=TCG,
                vendor=VENDOR,
            ),
            extras=(
                put(self._RSDP, acpi.rsdp(self._ACPI)),
                put(self._ACPI, acpi.xsdt()),
                put(self._GDT, _QBOOT_GDT),
            ),
            overwritten=(*_MICROVM_LOW, self._TABLES, self.shadow),
        )
