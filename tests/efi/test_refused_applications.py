"""A UEFI application that firmware would not start is not booted: refused by the rule that it breaks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import efi_dump
from bootbuild.api import MemoryContent, Offer, Startup
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.content import Piece, SplicedContent
from bootbuild.model.verdict import Outcome
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import Ovmf
from bootbuild.platform.uefi.pe_image import NotAnImage, read_pe
from bootbuild.platform.uefi.programs import Programs
from broken_pe import BROKEN
from pe_cases import CASES, PeCase
from pe_edits import (
    BASE_RELOCATIONS,
    DATA_,
    RELOC,
    TEXT,
    MiB,
    both,
    code,
    directory,
    in_section,
    section,
    tiny,
    written_over,
)
from tiny_file import Load, elf_file
from tiny_pe import CODE as CODE_FLAGS
from tiny_pe import DATA, Section, TinyPe

SOURCE = Path(__file__).with_name("program.c")
KERNEL, CODE = 0x1800000, b"\xf4\xeb\xfd"  #: as program.c has them

#: what is wrong with it: the rule, and the word of the firmware
REFUSED = {
    "no PE signature": ("BB-L520", "Unsupported"),
    "for 64-bit ARM": ("BB-L521", "Unsupported"),
    "17 directories": ("BB-L522", "Unsupported"),
    "16 sections": ("BB-L523", "Unsupported"),
    "cut behind the headers": ("BB-L524", "Unsupported"),
    "subsystem boot service driver": ("BB-L526", "Not Found"),
    "SizeOfImage 1 GiB": ("BB-L535", "Out of Resources"),
    "SectionAlignment 0": ("BB-L528", "Invalid Parameter"),
    "stripped, ImageBase 10 MiB": ("BB-L529", "Not Found"),
    "entry 0": ("BB-L531", "wild"),
    "data overlaps code": ("BB-L532", "wild"),
    "as it is": ("", ""),
}


@pytest.fixture(scope="module")
def good(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return efi_dump.compile_pe(gcc, [SOURCE], tmp_path_factory.mktemp("pe"), ("-DBREAK=NOTHING",))


def subject(pe: bytes) -> Subject:
    kernel = read_elf(
        MemoryContent(elf_file(64, KERNEL, Load(KERNEL, KERNEL, CODE, len(CODE), 0x1000), b"")), "kernel"
    )
    return Subject(
        image=replace(kernel, packing=MemoryContent(pe)),
        startup=Startup("startup_64", KERNEL, KERNEL, 64),
        guest=None,
        offer=Offer(),
        stub=None,
        symbols={},
        expect=b"",
        budget=1_000_000,
        timeout=30.0,
        code=CODE,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_that_rule(name: str, good: bytes) -> None:
    rule, word = REFUSED[name]
    (change,) = (one.change for one in BROKEN if one.name == name)
    host = Host.discover(plugins=False)
    profile = host.profile("efi@ovmf")
    verdict = prove(subject(change(good)), profile, host.loader(profile.loader))
    assert [finding.rule for finding in verdict.findings] == ([rule] if rule else [])
    assert verdict.outcome is (Outcome.FAILED if rule else Outcome.BOOTED)
    assert all(word in finding.message for finding in verdict.findings)


def test_writable_code_is_refused_where_memory_is_protected(good: bytes) -> None:
    """If there is a section that is code and nothing else: EDK2 leaves an image without any as it is."""
    change = both(section(TEXT, flags=0xE0000020), section(DATA_, flags=CODE_FLAGS))
    host = Host.discover(plugins=False)
    profile = host.profile("efi@wx-strict")
    verdict = prove(subject(change(good)), profile, host.loader(profile.loader))
    assert [finding.rule for finding in verdict.findings] == ["BB-L534"]


#: what the model has of EDK2 that LoadImage has not here: subsystems apart, a directory that is not there,
#: debug entries, resources. Where EDK2 writes behind its memory, it is refused
BEYOND = ("BB-L526", "BB-L533", "BB-L536", "BB-L527", "BB-L133", "BB-L520")
ALONE = ("5 directories", "a debug entry that makes the image larger")
CODES = {"Unsupported": status.UNSUPPORTED, "Load Error": status.LOAD_ERROR, "": None}
JUDGED = [case for case in CASES if case.said("edk2")[1] not in BEYOND and str(case) not in ALONE]


@pytest.mark.parametrize("case", JUDGED, ids=str)
def test_load_image_says_what_edk2_says(case: PeCase) -> None:
    """A program may hand any bytes to LoadImage. The model, which reads by other code, is held to OVMF."""
    (said,) = Host.discover().loader("edk2").judge(MemoryContent(case.data()))
    code = None
    try:
        image = read_pe(MemoryContent(case.data()))
        here = image.base >= 1 << 20 and image.base % 0x1000 == 0 and image.base < 1 << 29
        image.load(image.base if here or not image.relocatable else 24 << 20)
    except NotAnImage as refused:
        code = refused.code
    assert code == CODES.get(said.message)


def test_load_image_does_not_copy_sections_for_ever() -> None:
    image = read_pe(MemoryContent(written_over(8 << 20, 10_000)))
    with pytest.raises(NotAnImage, match="its sections overlap"):
        image.load(image.base)


def test_each_kind_of_relocation_changes_its_bits() -> None:
    """PE/COFF specification, "Base Relocation Types": HIGH, LOW, HIGHLOW, DIR64."""
    words = struct.pack("<4Q", *[0x1122334455667788] * 4)
    block = struct.pack("<2I4H", 0x2000, 16, 0x1000, 0x2008, 0x3010, 0xA018)
    table = both(section(RELOC, size=16), in_section(RELOC, 0, block), directory(5, 0x4000, 16))
    loads = read_pe(MemoryContent(both(in_section(DATA_, 0, words), table)(tiny()))).load(0x1F0009000)
    memory = SplicedContent(
        0x5000, [Piece(x.address - 0x1F0009000, x.content, x.offset, x.size) for x in loads]
    )
    assert struct.unpack("<4Q", memory.read(0x2000, 0x20)) == (
        0x1122334455666788,
        0x1122334455660788,
        0x1122334445670788,
        0x1122334645670788,
    )


def filled(size: int, relocated: Sequence[int], data: bytes = b"") -> TinyPe:
    """An image of so much data from 0x2000 on."""
    sections = [Section(".text", 0x1000, code(), CODE_FLAGS), Section(".data", 0x2000, data, DATA, size)]
    return TinyPe(sections, 0x1000, relocated=relocated)


def test_relocations_that_share_bytes_across_a_mebibyte() -> None:
    """One after the other, each finds what those before it have left."""
    words = (MiB - 8, MiB - 4, MiB, MiB + 3)
    data = bytes(number * 7 & 0xFF for number in range(MiB))
    base = 0x123456789000
    right = bytearray(data)
    for rva in words:
        word = slice(rva - 0x2000, rva - 0x2000 + 8)
        right[word] = (int.from_bytes(right[word], "little") + base & (1 << 64) - 1).to_bytes(8, "little")
    image = read_pe(MemoryContent(bytes(filled(MiB, words, data))))
    loads = image.load(base)
    memory = SplicedContent(image.size, [Piece(x.address - base, x.content, x.offset, x.size) for x in loads])
    assert memory.read(0x2000, MiB) == right


def test_two_relocations_far_apart_take_no_memory_for_what_is_between() -> None:
    pe = bytes(filled(300 * MiB, (0x2000, 300 * MiB)))
    assert len(pe) < 8192
    loads = read_pe(MemoryContent(pe)).load(MiB)
    assert sum(load.content.size for load in loads if load.content.size != len(pe)) <= 2 * MiB


def test_a_mebibyte_of_relocations_is_followed_and_no_more() -> None:
    block = struct.pack("<2I", 0x1000, MiB) + bytes(MiB - 8)
    for more, text in ((b"", ""), (bytes(8), "0x100008 bytes of relocations: 1 MiB are followed here")):
        data = block + more
        pe = directory(BASE_RELOCATIONS, 0x2000, len(data))(bytes(filled(MiB + 8, (), data)))
        with pytest.raises(NotAnImage, match=text) if text else nullcontext():
            read_pe(MemoryContent(pe)).load(16 * MiB)


def test_load_image_refuses_a_relocation_across_the_end_of_the_image() -> None:
    block = struct.pack("<2I2H", 0x4000, 12, 0xAFFC, 0)
    image = read_pe(MemoryContent(in_section(RELOC, 0, block)(tiny())))
    with pytest.raises(NotAnImage, match="a relocation at 0x4ffc lies behind SizeOfImage") as refused:
        image.load(1 << 20)
    assert refused.value.code == status.LOAD_ERROR


def test_an_image_that_is_refused_has_no_memory() -> None:
    """As CoreLoadPeImage gives back what it had allocated: the next memory map is the one before."""
    (change,) = (one.change for one in BROKEN if one.name == "a section behind the image")
    firmware = Firmware(Ovmf(512 << 20), Poison(0, frozenset()))
    programs = Programs(firmware)
    before = list(firmware.pages)
    with pytest.raises(NotAnImage, match="ends behind SizeOfImage"):
        programs.load(read_pe(MemoryContent(change(tiny()))), 0, 0, b"")
    assert list(firmware.pages) == before
