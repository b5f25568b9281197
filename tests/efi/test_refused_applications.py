"""A UEFI application that firmware would not start is not booted: refused by the rule that it breaks."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

import efi_dump
from bootbuild.api import MemoryContent, Offer, Startup
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild.model.verdict import Outcome
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.ovmf import Ovmf
from bootbuild.platform.uefi.pe_image import NotAnImage, read_pe
from bootbuild.platform.uefi.programs import Programs
from broken_pe import BROKEN, DATA_, TEXT, both, section, tiny
from tiny_file import Load, elf_file
from tiny_pe import CODE as CODE_FLAGS

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


def test_load_image_refuses_relocations_that_are_not_in_the_image() -> None:
    """As PeCoffLoaderRelocateImage does: a program may hand any bytes to LoadImage."""
    (change,) = (one.change for one in BROKEN if one.name == "relocations behind the image")
    image = read_pe(MemoryContent(change(tiny())))
    with pytest.raises(NotAnImage, match="lie behind SizeOfImage") as refused:
        image.load(image.base + 0x1000)
    assert refused.value.code == status.LOAD_ERROR


def test_load_image_refuses_a_section_that_is_cut() -> None:
    (change,) = (one.change for one in BROKEN if one.name == "cut behind the headers")
    image = read_pe(MemoryContent(change(tiny())))
    with pytest.raises(NotAnImage, match=r"the file ends within section \.text"):
        image.load(image.base)


def test_an_image_that_is_refused_has_no_memory() -> None:
    """As CoreLoadPeImage gives back what it had allocated: the next memory map is the one before."""
    (change,) = (one.change for one in BROKEN if one.name == "a section behind the image")
    firmware = Firmware(Ovmf(512 << 20), Poison(0, frozenset()))
    programs = Programs(firmware)
    before = list(firmware.pages)
    with pytest.raises(NotAnImage, match="ends behind SizeOfImage"):
        programs.load(read_pe(MemoryContent(change(tiny()))), 0, 0, b"")
    assert list(firmware.pages) == before


def test_load_image_refuses_headers_that_are_no_smaller_than_the_image() -> None:
    """As PeCoffLoaderGetPeHeader does: they would be written behind the pages that the image gets."""
    data = bytearray(tiny())
    (at,) = struct.unpack_from("<I", data, 0x3C)
    (size,) = struct.unpack_from("<I", data, at + 24 + 60)
    struct.pack_into("<I", data, at + 24 + 56, size)
    with pytest.raises(NotAnImage, match=f"{size:#x} bytes of headers do not fit an image of {size:#x}"):
        read_pe(MemoryContent(bytes(data)))
