"""GRUB as 64-bit UEFI started it: profile `multiboot2@grub-efi64`, with boot services ended or alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bootbuild.abi import multiboot2
from bootbuild.abi.handover import BootType
from bootbuild.abi.multiboot2 import EfiMemoryMap, Multiboot2Info, Tag, TagType
from bootbuild.api import ElfImage, EntryState, Given, InputError, Offer, Problem, Rule, Span, TableRegister
from bootbuild.platform.loading import GiB, MiB, check_memory, memory_size, put
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild.platform.uefi import alive
from bootbuild.platform.uefi.ovmf import DESCRIPTOR_SIZE, DESCRIPTOR_VERSION, PAGE, Ovmf
from bootbuild_baremetal.environments import kernel as read
from bootbuild_baremetal.environments.grub import VERSION, GrubProfile, Placed
from bootbuild_baremetal.environments.kernel import Kernel
from bootbuild_baremetal.environments.profile import UNDEFINED, Setting
from bootbuild_baremetal.environments.relocator import Relocator

BOOT_SERVICES = Rule(
    "BB-L334",
    "UEFI's boot services without an entry for them",
    "With tag 7 in its header (Multiboot2 §3.1.9) GRUB leaves the boot services alive and enters the kernel "
    "in 64-bit mode: at the address of tag 9, and without that tag at the address of the 32-bit entry, whose "
    "code is another then.",
    "name a 64-bit entry in tag 9, or leave tag 7 out",
)
_LEAST = 0x1000  #: MBI_MIN_ADDR
_MAP_ROOM = 3 * PAGE  #: grub_efi_find_mmap_size: the map's size and a page, in whole pages
# grub_multiboot2_get_mbi_size has room for tags that are not there: an end, framebuffer, VBE, APM, boot
# device, the system table of 32-bit UEFI, two image handles; and this much for the head of the map
_OTHER_ROOM = 8 + 40 + 791 + 35 + 24 + 48 + 16
_IDT, _CR3 = 0xF84FE8, 0x7FF000  #: bytes below the end of RAM
# Below the end of RAM: the stack that OVMF gave GRUB. A multiple of 16; how deep is its script's matter
_RSP = 0x15FA10


class Multiboot2(GrubProfile):
    """`multiboot2 /kernel …`, `module2 /file …` on UEFI: all but the kernel lies as low as it can."""

    target, name, loader = "multiboot2", "grub-efi64", "grub-multiboot2-efi64"
    boot_type = BootType.MULTIBOOT2
    lowest_module = 0
    code_size, gdt_offset = 0xF0, 0xD0
    source = (
        "grub-core/loader/{multiboot.c,multiboot_mbi2.c}, kern/efi/mm.c; dumped under GRUB 2.06 and OVMF "
        "2022.11 (tests/oracles)"
    )
    summary = "GRUB 2.06 on 64-bit UEFI (OVMF), command multiboot2; boot services ended unless asked for"

    rules = (*GrubProfile.rules, BOOT_SERVICES)
    undefined = (*UNDEFINED, *alive.UPPER_REGISTERS)

    def kernel(self, image: ElfImage) -> Kernel:
        kernel = read.multiboot2(image)
        if kernel.keeps_boot_services and kernel.efi64_entry is None:
            text = "the header asks for boot services and names no 64-bit entry"
            raise InputError(Problem(BOOT_SERVICES, image.name, text))
        return kernel

    def setting(self, image: ElfImage, kernel: Kernel, offer: Offer) -> Setting:
        memory = memory_size(image, offer, 2 * GiB, least=256 * MiB, usual=512 * MiB)
        firmware = Ovmf(memory)
        kept = kernel.keeps_boot_services
        # GRUB moves a kernel over boot services that have ended, and over living ones too
        free = (*firmware.conventional, *firmware.between)
        usable = free if kept else firmware.ram
        room = Relocator(firmware.conventional, usable, free, PAGE)
        placed = self.placed(image, kernel, offer, room)
        kernel = placed.kernel
        check_memory(image, (part.span for part in kernel.parts), usable)
        given = self._handed(image, placed, firmware, room)
        if kept:
            return _alive(placed, given, firmware)
        left = EntryState(
            "protected32",
            0,
            {"rflags": 0x200006},
            cr0=0x10033,
            cr3=memory - _CR3,
            cr4=0x648,
            efer=0x800,
            idtr=TableRegister(memory - _IDT, 0xFFF),
        )
        state, gdt = self.entered(kernel, multiboot2.MAGIC, given.data, room, left)
        return Setting(
            regions=firmware.regions,
            image=placed.image,
            given=given,
            modules=placed.modules,
            state=state,
            platform=firmware.platform(),
            extras=(*placed.homeless, gdt, *firmware.tables()),
            moved=kernel.moved,
        )

    def _handed(self, image: ElfImage, placed: Placed, firmware: Ovmf, room: Relocator) -> Given:
        entries, sections = firmware.memory_map, placed.kernel.sections
        kept = placed.kernel.keeps_boot_services
        before: tuple[Tag, ...] = (
            multiboot2.load_base_tag(placed.kernel.base),
            multiboot2.cmdline_tag(placed.cmdline),
            multiboot2.loader_name_tag(VERSION),
            *(multiboot2.module_tag(m.span.start, m.span.end, m.cmdline) for m in placed.given),
            multiboot2.memory_map_tag(entries),
            multiboot2.elf_sections_tag(
                sections.number, sections.entry_size, sections.names, placed.sections
            ),
            multiboot2.memory_tag(640, entries[1].size // 1024),
            multiboot2.efi64_tag(firmware.system_table),
            Tag(TagType.ACPI_OLD, firmware.old_rsdp),
            Tag(TagType.ACPI_NEW, firmware.rsdp),
        )
        reserved = len(Multiboot2Info(before).pack()) + _OTHER_ROOM + (0 if kept else _MAP_ROOM)
        info = room.place(reserved, multiboot2.ALIGN, _LEAST)
        if info is None:
            raise InputError(Problem(DOES_NOT_FIT, image.name, "GRUB finds no room for its information"))
        given = Given(
            boot_type=self.boot_type,
            hypervisor_type=self.hypervisor,
            data=info,
            cmdline=placed.cmdline,
            modules=placed.given,
            memory_map=(),
            efi_system_table=firmware.system_table,
        )
        if kept:  # what memory there is the firmware says, when it is asked
            structure = Multiboot2Info(
                (
                    *(tag for tag in before if tag.type not in (TagType.MEMORY_MAP, TagType.MEMORY)),
                    Tag(TagType.EFI_BOOT_SERVICES),
                    multiboot2.efi64_image_handle_tag(firmware.memory - alive.IMAGE_HANDLE),
                )
            )
            return replace(
                given,
                rsdp=info + structure.offset(TagType.ACPI_NEW),
                structures=(put(info, structure.pack()),),
            )
        descriptors = b"".join(d.pack() for d in firmware.descriptors(_merged(room.taken)))
        efi_map = EfiMemoryMap(DESCRIPTOR_SIZE, DESCRIPTOR_VERSION, descriptors)
        structure = Multiboot2Info((*before, multiboot2.efi_memory_map_tag(efi_map)))
        mmap = info + structure.offset(TagType.MEMORY_MAP) + multiboot2.MAP_HEADER_SIZE
        return replace(
            given,
            memory_map=entries,
            rsdp=info + structure.offset(TagType.ACPI_NEW),
            efi_memmap=Span(
                info + structure.offset(TagType.EFI_MEMORY_MAP) + multiboot2.MAP_HEADER_SIZE, len(descriptors)
            ),
            efi_memmap_descriptor_size=DESCRIPTOR_SIZE,
            efi_memmap_descriptor_version=DESCRIPTOR_VERSION,
            native_map=Span(mmap, multiboot2.MAP_ENTRY_SIZE * len(entries)),
            structures=(put(info, structure.pack()),),
        )


def _alive(placed: Placed, given: Given, firmware: Ovmf) -> Setting:
    """The machine after grub_relocator64_efi, which leaves all but RAX, RBX, RCX, RDX, RSI and RSP as it was.

    What is GRUB's own in RBP and R8 to R15 is not copied.
    """
    assert placed.kernel.efi64_entry is not None
    registers = {"rax": multiboot2.MAGIC, "rbx": given.data, "rsp": firmware.memory - _RSP}
    state = alive.state(firmware, placed.kernel.efi64_entry, registers)
    return Setting(
        regions=alive.regions(firmware),
        image=placed.image,
        given=replace(given, firmware=state),
        modules=placed.modules,
        state=state,
        platform=alive.Services(firmware),
        extras=(*placed.homeless, *alive.tables(firmware)),
        poisoned=alive.poisoned,
        moved=placed.kernel.moved,
    )


def _merged(chunks: Sequence[Span]) -> list[Span]:
    """Chunks that lie one behind another, as one."""
    merged: list[Span] = []
    for chunk in sorted(chunks):
        if merged and chunk.start <= merged[-1].end:
            start = merged[-1].start
            merged[-1] = Span(start, max(merged[-1].end, chunk.end) - start)
        else:
            merged.append(chunk)
    return merged
