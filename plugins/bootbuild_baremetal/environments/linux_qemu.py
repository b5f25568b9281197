"""QEMU's -kernel on machine pc: SeaBIOS and the option ROM linuxboot_dma.bin, which enters real-mode code."""

from __future__ import annotations

import re
from dataclasses import replace

from bootbuild.abi import boot_params
from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    Content,
    Descriptor,
    ElfImage,
    EntryState,
    Evidence,
    Given,
    InputError,
    Load,
    Offer,
    Problem,
    Span,
    TableRegister,
)
from bootbuild.platform import pcbios
from bootbuild.platform.flat32 import Poison, general_garbage
from bootbuild.platform.loading import RESET_TR, MiB, check_memory, put, ramdisk
from bootbuild.platform.pcbios import BiosPc
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild.platform.seabios import PM1_CONTROL, RSDP, SeabiosPc
from bootbuild_baremetal.environments.linux_header import (
    CAN_USE_HEAP,
    HEADER_AT,
    LOADED_HIGH,
    NOT_LINUX,
    XLF_CAN_BE_LOADED_ABOVE_4G,
    Bzimage,
)
from bootbuild_baremetal.environments.linux_profile import UNDEFINED_16, LinuxProfile, Setting, given_modules

# x86_load_linux (hw/i386/x86.c) for "high and recent" kernels
_REAL, _CMDLINE, _KERNEL = 0x10000, 0x20000, 0x100000
_ACPI_DATA = 0x28000  #: acpi_data_size of hw/i386/pc.c
_OLDEST = 0x0202
_ABOVE_4G_SINCE, _INITRD_MAX_SINCE = 0x020C, 0x0203
_OLD_INITRD_MAX = 0x37FFFFFF
_QEMU = 0xB0  #: type_of_loader
_VIDEO_MODES = {b"normal": 0xFFFF, b"ext": 0xFFFE, b"ask": 0xFFFD}
_PAGE_MASK = 0xFFFFF000


class Qemu(LinuxProfile):
    """`qemu-system-x86_64 -M pc -cpu max -nodefaults -kernel FILE -append … -initrd FILE`."""

    name, loader = "qemu-16bit", "qemu-linux"
    version = "7.2"
    evidence = Evidence.ORACLE
    source = "hw/i386/x86.c, pc-bios/optionrom/linuxboot_dma.c; dumped under QEMU 7.2.22 (tests/oracles)"
    summary = "QEMU, machine pc (SeaBIOS and linuxboot_dma.bin), into the real-mode entry"
    hypervisor = HypervisorType.TCG
    undefined = UNDEFINED_16

    def setting(self, image: ElfImage, offer: Offer) -> Setting:
        pc = SeabiosPc(self.memory(image, offer))
        header, initrd = self.header(image, offer), ramdisk(image, offer)
        if header.version < _OLDEST or not header.loadflags & LOADED_HIGH:
            text = f"protocol {header.version:#x}, loadflags {header.loadflags:#x}: QEMU would load it low"
            raise InputError(Problem(NOT_LINUX, image.name, text))
        setup, kernel = header.setup(_REAL), header.kernel(_KERNEL)
        spans = (Span(load.address, load.size) for load in (setup, kernel))
        check_memory(image, spans, pc.ram)
        modules: tuple[Load, ...] = ()
        fields: dict[str, int | bytes] = {
            "type_of_loader": _QEMU,
            "loadflags": header.loadflags | CAN_USE_HEAP,
            "heap_end_ptr": _CMDLINE - _REAL - 0x200,
            "cmd_line_ptr": _CMDLINE,
        }
        if initrd is not None:
            at = _initrd(image, header, initrd, pc)
            modules = (Load(at, initrd, 0, initrd.size, initrd.size),)
            fields |= {"ramdisk_image": at, "ramdisk_size": initrd.size}
        if found := re.search(rb"vga=([^ ]*)", offer.cmdline):
            fields["vid_mode"] = _video_mode(found[1])
        # before the header is real-mode code, which may do with itself what it likes
        written = boot_params.pack(header.header, fields)[HEADER_AT : len(header.header)]
        return Setting(
            regions=pc.regions,
            kernel=(setup, kernel),
            given=Given(
                boot_type=BootType.LINUX_16,
                hypervisor_type=self.hypervisor,
                data=_REAL,
                cmdline=offer.cmdline,
                modules=given_modules(modules),
                memory_map=pc.memory_map,
                rsdp=RSDP,
                structures=(put(_REAL + HEADER_AT, written), put(_CMDLINE, offer.cmdline + b"\0")),
            ),
            modules=modules,
            state=_state(),
            platform=BiosPc(pc, PM1_CONTROL),
            extras=lambda _: (*pcbios.low_memory(), *pc.acpi),
        )

    def poisoned(self, exact: EntryState, poison: Poison) -> EntryState:
        """Not replaced: SP, which is the top of the heap, and the segments, flat in one segment."""
        registers = dict(exact.registers)
        registers |= general_garbage(registers, poison)
        registers["rbx"] = poison.pick("EBX", registers.get("rbx", 0), 0xDEAD0006, 0x5EED0707)
        registers["rflags"] = poison.pick("EFLAGS", registers["rflags"], 0x4D7, 0x240003)
        table = TableRegister(poison.pick("GDTR", exact.gdtr.base, 0xFFFFF000, 0x7F000000), exact.gdtr.limit)
        return replace(exact, registers=registers, gdtr=table)


def _initrd(image: ElfImage, header: Bzimage, initrd: Content, pc: SeabiosPc) -> int:
    """Where QEMU says, unless the option ROM knows better: at the end of what the firmware offers.

    Raises InputError (BB-L003), where QEMU says as much.
    """
    most = header.initrd_addr_max if header.version >= _INITRD_MAX_SINCE else _OLD_INITRD_MAX
    limit = most
    if header.version >= _ABOVE_4G_SINCE and header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G:
        limit = 0xFFFFFFFF
    limit = min(limit, pc.memory - _ACPI_DATA - 1)
    if initrd.size >= limit:
        text = f"qemu: initrd is too large, cannot support.(max: {limit}, need {initrd.size})"
        raise InputError(Problem(DOES_NOT_FIT, image.name, text))
    at = limit - initrd.size & _PAGE_MASK
    end = at + initrd.size & _PAGE_MASK
    if end and most & _PAGE_MASK and end != most & _PAGE_MASK:
        low, high = pcbios.extended(pc.top)
        known = 16 * MiB + (high << 16) if high else MiB + (low << 10)
        return known - initrd.size & _PAGE_MASK
    return at


def _video_mode(value: bytes) -> int:
    if value in _VIDEO_MODES:
        return _VIDEO_MODES[value]
    try:
        return int(value, 0) & 0xFFFF
    except ValueError:
        return 0xFFFF


def _state() -> EntryState:
    segment = _REAL >> 4
    data = Descriptor(segment, base=_REAL, limit=0xFFFF, attributes=0x93)
    return EntryState(
        mode="real16",
        ip=0,
        registers={"rax": segment + 0x20, "rsp": _CMDLINE - _REAL - 16, "rflags": 0x46},
        cr0=0x10,
        cs=Descriptor(segment + 0x20, base=_REAL + 0x200, limit=0xFFFF, attributes=0x9B),
        ds=data,
        es=data,
        ss=data,
        fs=data,
        gs=data,
        tr=RESET_TR,
        gdtr=TableRegister(0, 0),
        idtr=TableRegister(0, 0x3FF),
    )
