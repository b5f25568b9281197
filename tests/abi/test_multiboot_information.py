"""Multiboot's information structures: what is packed reads back, and what is cut off is named."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from bootbuild.abi import multiboot, multiboot2
from bootbuild.abi.multiboot import MultibootInfo, MultibootModule
from bootbuild.abi.multiboot2 import EfiMemoryMap, Multiboot2Info, Multiboot2Module, Tag, TagType
from bootbuild.model.machine import MapEntry

MAP = (MapEntry(0, 0x9FC00, 1), MapEntry(0xFD00000000, 0x300000000, 2))
# Multiboot 0.6.96 §3.3, the figure: the offset of each group of fields
OFFSETS = {
    "mem_lower": 4,
    "boot_device": 12,
    "cmdline": 16,
    "mods_count": 20,
    "elf_num": 28,
    "mmap_length": 44,
    "drives_length": 52,
    "config_table": 60,
    "boot_loader_name": 64,
    "apm_table": 68,
    "vbe_control_info": 72,
    "framebuffer_addr": 88,
    "framebuffer_width": 100,
}


@pytest.mark.parametrize("name", OFFSETS)
def test_a_field_of_multiboot_1_is_where_the_specification_has_it(name: str) -> None:
    change: dict[str, Any] = {name: 0x12345678}
    data = MultibootInfo(0, **change).pack()
    assert len(data) == multiboot.SIZE
    assert data.find(struct.pack("<I", 0x12345678)) == OFFSETS[name]
    assert getattr(MultibootInfo.unpack(data), name) == 0x12345678


def test_a_structure_without_the_framebuffer_reads_as_one_whose_fields_are_0() -> None:
    info = MultibootInfo(0x24F, mem_upper=0x1FB80, framebuffer_addr=0xB8000)
    short = info.pack(multiboot.SIZE_WITHOUT_FRAMEBUFFER)
    assert len(short) == 88
    assert MultibootInfo.unpack(short) == MultibootInfo(0x24F, mem_upper=0x1FB80)


def test_modules_and_map_of_multiboot_1_read_back() -> None:
    modules = (MultibootModule(0x200000, 0x201001, 0x1000), MultibootModule(0x300000, 0x300000))
    assert multiboot.unpack_modules(multiboot.pack_modules(modules)) == modules
    assert multiboot.unpack_memory_map(multiboot.pack_memory_map(MAP)) == MAP


def test_an_entry_of_the_map_of_multiboot_1_may_be_longer_than_we_know() -> None:
    longer = struct.pack("<IQQII", 24, 0x1000, 0x2000, 1, 0xDEAD) + multiboot.pack_memory_map(MAP[:1])
    assert multiboot.unpack_memory_map(longer) == (MapEntry(0x1000, 0x2000, 1), MAP[0])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (multiboot.pack_memory_map(MAP)[:-1], "entry at byte 24 is cut off"),
        (struct.pack("<IQQI", 16, 0, 0, 1), "entry at byte 0 says 16 bytes, not 20"),
    ],
)
def test_a_map_of_multiboot_1_that_is_cut_off_is_an_error(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        multiboot.unpack_memory_map(data)


def test_half_a_module_and_no_flags_are_errors() -> None:
    with pytest.raises(ValueError, match="17 bytes are no list"):
        multiboot.unpack_modules(bytes(17))
    with pytest.raises(ValueError, match="3 bytes are no Multiboot information"):
        MultibootInfo.unpack(bytes(3))


EFI_MAP = EfiMemoryMap(48, 1, bytes(96))
FULL = Multiboot2Info(
    (
        multiboot2.load_base_tag(0x100000),
        multiboot2.cmdline_tag(b"a=b"),
        multiboot2.loader_name_tag(b"GRUB 2.06"),
        multiboot2.module_tag(0x200000, 0x200005, b"of a module"),
        multiboot2.memory_tag(639, 129920),
        multiboot2.boot_device_tag(0xE0),
        multiboot2.module_tag(0x300000, 0x300000),
        multiboot2.memory_map_tag(MAP),
        multiboot2.elf_sections_tag(1, 40, 0, bytes(40)),
        multiboot2.efi64_tag(0x7E9EC018),
        Tag(TagType.ACPI_OLD, b"RSD PTR old"),
        Tag(TagType.ACPI_NEW, b"RSD PTR new"),
        multiboot2.efi_memory_map_tag(EFI_MAP),
    )
)


def test_tags_read_back_in_order_with_what_is_in_them() -> None:
    found = Multiboot2Info.unpack(FULL.pack() + b"what is behind it")
    assert found == FULL
    assert (found.cmdline, found.loader_name) == (b"a=b", b"GRUB 2.06")
    assert found.modules == (
        Multiboot2Module(0x200000, 0x200005, b"of a module"),
        Multiboot2Module(0x300000, 0x300000, b""),
    )
    assert found.memory_map == MAP
    assert found.rsdp == b"RSD PTR new"
    assert found.efi_system_table == 0x7E9EC018
    assert found.efi_memory_map == EFI_MAP


def test_every_tag_lies_at_a_multiple_of_8_and_the_total_counts_the_padding() -> None:
    data = FULL.pack()
    assert struct.unpack_from("<II", data) == (len(data), 0)
    assert len(data) % 8 == 0
    assert data[-8:] == struct.pack("<II", 0, 8)
    at = FULL.offset(TagType.MEMORY_MAP)
    assert (at % 8, data[at - 8 : at]) == (0, struct.pack("<II", 6, 8 + 8 + 24 * len(MAP)))
    with pytest.raises(LookupError):
        FULL.offset(TagType.SMBIOS)


def test_what_is_not_there_is_absent() -> None:
    empty = Multiboot2Info.unpack(Multiboot2Info(()).pack())
    assert (empty.cmdline, empty.modules, empty.memory_map, empty.rsdp) == (None, (), (), None)
    assert (empty.efi_system_table, empty.efi_memory_map) == (0, None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(7), "7 bytes are no Multiboot2 information"),
        (struct.pack("<II", 24, 0) + bytes(8), "has 24 bytes, of which 16 are there"),
        (struct.pack("<IIII", 16, 0, 1, 9), "tag 1 at byte 8 says 9 bytes; the information has 16"),
        (struct.pack("<IIII", 16, 0, 1, 0), "tag 1 at byte 8 says 0 bytes"),
        (struct.pack("<IIII", 16, 0, 1, 8), "do not end within the 16 bytes"),
    ],
)
def test_tags_that_do_not_end_are_an_error(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Multiboot2Info.unpack(data)
