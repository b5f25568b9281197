"""GRUB as a PC's BIOS started it, from a disk: profiles `multiboot1@grub` and `multiboot2@grub-bios`."""

from __future__ import annotations

import struct
from abc import abstractmethod
from dataclasses import replace

from bootbuild.abi import acpi, multiboot, multiboot2
from bootbuild.abi.handover import BootType
from bootbuild.abi.multiboot import MultibootInfo, MultibootModule
from bootbuild.abi.multiboot2 import Multiboot2Info, Tag, TagType
from bootbuild.api import (
    ElfImage,
    EntryState,
    Given,
    InputError,
    Offer,
    Problem,
    Span,
    TableRegister,
    align_up,
)
from bootbuild.platform.loading import RAM, MiB, check_memory, memory_size, put
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild.platform.seabios import OEM, RSDP, SHADOW, SeabiosPc
from bootbuild_baremetal.environments import kernel as read
from bootbuild_baremetal.environments.grub import VERSION, GrubProfile, Placed
from bootbuild_baremetal.environments.kernel import Kernel
from bootbuild_baremetal.environments.profile import Setting
from bootbuild_baremetal.environments.relocator import Relocator

LEFT = EntryState("protected32", 0, {"rflags": 0x46}, cr0=0x11, idtr=TableRegister(0, 0))
CODE_SIZE, GDT_OFFSET = 0xD0, 0xB0  #: of grub_relocator32 on a BIOS
_DRIVE = 0x80  #: the first disk, of which GRUB's root is the first partition
# SeaBIOS's APM 1.2: version, code segment, offset, 16-bit code, data; flags; their lengths less one
_APM = struct.pack("<HHIHHHHHH", 0x102, 0xF000, 0xD198, 0xF000, 0xF000, 3, 0xFFF0, 0xFFF0, 0xFFF0)
_RSDT = 0x1A7D  #: bytes above the start of SeaBIOS's ACPI tables
# grub_multiboot2_get_mbi_size has room for tags that are not there: an end, framebuffer, VBE; and for APM
_OTHER_ROOM = 8 + 40 + 791 + 3
_BLOCK = 16  #: GRUB_MM_ALIGN of a 32-bit GRUB
_LEAST = 0x1000  #: MBI_MIN_ADDR
_OWN = 0xC0000  #: bytes at the end of RAM that GRUB has for itself; how many is its script's matter


class _BiosProfile(GrubProfile):
    """What both protocols have in common: the machine, and where GRUB's memory is."""

    magic: int
    code_size, gdt_offset = CODE_SIZE, GDT_OFFSET

    def setting(self, image: ElfImage, kernel: Kernel, offer: Offer) -> Setting:
        pc = SeabiosPc(memory_size(image, offer))
        low, main = pc.ram
        high = replace(main, size=main.size - _OWN)
        offered = [Span(entry.address, entry.size) for entry in pc.memory_map if entry.type == RAM]
        memory = Relocator([main], offered, [high], block=_BLOCK)
        placed = self.placed(image, kernel, offer, memory)
        kernel = placed.kernel
        check_memory(image, (part.span for part in kernel.parts), (low, main))
        given = self.handed(image, placed, pc, memory)
        state, gdt = self.entered(kernel, self.magic, given.data, memory, LEFT)
        rsdt = pc.top + _RSDT
        return Setting(
            regions=pc.regions,
            image=placed.image,
            given=given,
            modules=placed.modules,
            state=state,
            platform=pc.platform(),
            extras=(*placed.homeless, gdt, put(RSDP, acpi.old_rsdp(rsdt, OEM)), put(rsdt, acpi.rsdt())),
            overwritten=(SHADOW,),
            moved=kernel.moved,
        )

    @abstractmethod
    def handed(self, image: ElfImage, placed: Placed, pc: SeabiosPc, memory: Relocator) -> Given:
        """The information structure and what it leads to."""


class Multiboot1(_BiosProfile):
    """`multiboot /kernel …`, `module /file …`: the information is one block in low memory."""

    target, name, loader = "multiboot1", "grub", "grub-multiboot1"
    boot_type = BootType.MULTIBOOT1
    magic = multiboot.MAGIC
    lowest_module = MiB
    source = "grub-core/loader/{multiboot.c,i386/multiboot_mbi.c}; dumped under GRUB 2.06 (tests/oracles)"
    summary = "GRUB 2.06 on a BIOS, command multiboot"
    _STRUCTURE = 120  #: sizeof (struct multiboot_info): GRUB aligns the palette's address
    _BLOCK = Span(0x10000, 0x90000)  #: where the block may lie

    def kernel(self, image: ElfImage) -> Kernel:
        return read.multiboot1(image, read.grub_entry)

    def handed(self, image: ElfImage, placed: Placed, pc: SeabiosPc, memory: Relocator) -> Given:
        texts = [module.cmdline for module in placed.given]
        entries = pc.memory_map
        size = (
            self._STRUCTURE
            + align_up(len(placed.cmdline) + 1, 4)
            + multiboot.MODULE_SIZE * len(texts)
            + sum(align_up(len(text) + 1, 4) for text in texts)
            + align_up(len(VERSION) + 1, 4)
            + multiboot.MAP_ENTRY_SIZE * len(entries)
            + len(placed.sections)
            + 256 * 3 + 512 + 256 + 20  # a palette, VBE and APM information
        )  # fmt: skip
        info = memory.place(size, 4, self._BLOCK.start, self._BLOCK.end)
        if info is None:
            raise InputError(
                Problem(DOES_NOT_FIT, image.name, "GRUB finds no low memory for its information")
            )
        at = info + self._STRUCTURE
        loads = [put(at, placed.cmdline + b"\0")]
        name = at + align_up(len(placed.cmdline) + 1, 4)
        loads.append(put(name, VERSION + b"\0"))
        # what SeaBIOS says of APM goes where the next thing will be written
        at = modules = name + align_up(len(VERSION) + 1, 4) + 20
        at += multiboot.MODULE_SIZE * len(texts)
        listed = []
        for module, text in zip(placed.given, texts, strict=True):
            listed.append(MultibootModule(module.span.start, module.span.end, at))
            loads.append(put(at, text + b"\0"))
            at += align_up(len(text) + 1, 4)
        loads += [put(modules, multiboot.pack_modules(listed))] if listed else []
        mmap, sections = at, at + multiboot.MAP_ENTRY_SIZE * len(entries)
        loads.append(put(mmap, multiboot.pack_memory_map(entries)))
        flags = multiboot.MEMORY | multiboot.BOOT_DEVICE | multiboot.CMDLINE | multiboot.MEMORY_MAP
        flags |= multiboot.LOADER_NAME | multiboot.MODULES * bool(listed)
        found = placed.kernel.sections
        if found.number:
            flags |= multiboot.ELF_SECTIONS
            loads.append(put(sections, placed.sections))
        structure = MultibootInfo(
            flags=flags,
            mem_lower=entries[0].size // 1024,
            mem_upper=(pc.top - MiB) // 1024,
            boot_device=_DRIVE << 24 | 0x00FFFF,
            cmdline=info + self._STRUCTURE,
            mods_count=len(listed),
            mods_addr=modules if listed else 0,
            elf_num=found.number,
            elf_size=found.entry_size,
            elf_addr=sections if found.number else 0,
            elf_shndx=found.names,
            mmap_length=multiboot.MAP_ENTRY_SIZE * len(entries),
            mmap_addr=mmap,
            boot_loader_name=name,
        )
        return Given(
            boot_type=self.boot_type,
            hypervisor_type=self.hypervisor,
            data=info,
            cmdline=placed.cmdline,
            modules=placed.given,
            memory_map=entries,
            rsdp=RSDP,  # nobody hands it over: a kernel looks for it
            native_map=Span(mmap, multiboot.MAP_ENTRY_SIZE * len(entries)),
            structures=(put(info, structure.pack()), *loads),
        )


class Multiboot2(_BiosProfile):
    """`multiboot2 /kernel …`, `module2 /file …`: the information lies behind the kernel or below it."""

    target, name, loader = "multiboot2", "grub-bios", "grub-multiboot2"
    boot_type = BootType.MULTIBOOT2
    magic = multiboot2.MAGIC
    lowest_module = 0
    source = "grub-core/loader/{multiboot.c,multiboot_mbi2.c}; dumped under GRUB 2.06 (tests/oracles)"
    summary = "GRUB 2.06 on a BIOS, command multiboot2"

    def kernel(self, image: ElfImage) -> Kernel:
        return read.multiboot2(image)

    def handed(self, image: ElfImage, placed: Placed, pc: SeabiosPc, memory: Relocator) -> Given:
        entries, sections = pc.memory_map, placed.kernel.sections
        structure = Multiboot2Info(
            (
                multiboot2.load_base_tag(placed.kernel.base),
                multiboot2.cmdline_tag(placed.cmdline),
                multiboot2.loader_name_tag(VERSION),
                Tag(TagType.APM, _APM),
                *(multiboot2.module_tag(m.span.start, m.span.end, m.cmdline) for m in placed.given),
                multiboot2.memory_map_tag(entries),
                multiboot2.elf_sections_tag(
                    sections.number, sections.entry_size, sections.names, placed.sections
                ),
                multiboot2.memory_tag(entries[0].size // 1024, (pc.top - MiB) // 1024),
                multiboot2.boot_device_tag(_DRIVE, 0),
                Tag(TagType.ACPI_OLD, acpi.old_rsdp(pc.top + _RSDT, OEM)),
            )
        )
        data = structure.pack()
        reserved = len(data) + _OTHER_ROOM  # grub_multiboot2_get_mbi_size
        info = memory.place(reserved, multiboot2.ALIGN, _LEAST)
        if info is None:
            raise InputError(Problem(DOES_NOT_FIT, image.name, "GRUB finds no room for its information"))
        mmap = info + structure.offset(TagType.MEMORY_MAP) + multiboot2.MAP_HEADER_SIZE
        return Given(
            boot_type=self.boot_type,
            hypervisor_type=self.hypervisor,
            data=info,
            cmdline=placed.cmdline,
            modules=placed.given,
            memory_map=entries,
            rsdp=info + structure.offset(TagType.ACPI_OLD),
            native_map=Span(mmap, multiboot2.MAP_ENTRY_SIZE * len(entries)),
            structures=(put(info, data),),
        )
