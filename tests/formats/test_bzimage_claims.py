"""What a bzImage says of itself that no loader looks at: its checksum, and the memory that it takes."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest

from bootbuild.errors import InputError
from bootbuild.formats.payload import open_content, read_payload
from bootbuild.formats.setup_header import is_signed, wrong_checksum
from bootbuild.model.content import MemoryContent, Piece, SplicedContent
from tiny_bzimage import SETUP, bzimage
from tiny_file import Load, elf_file

KERNEL = elf_file(64, 0x1000000, Load(0x1000000, 0x1000000, b"\xf4" * 0x1000, 0x1000, 0x1000), b"")
TEXT = 0x400  #: of kernel_version, file offset
PE = 0x40
CHECKSUM, CERTIFICATES = PE + 24 + 64, PE + 24 + 112 + 4 * 8  #: of PE32+


def image(release: bytes = b"6.1.0-56-cloud-amd64", seal: bool = True, **fields: int) -> bytearray:
    """A stored kernel of this release, with the checksum of its build."""
    size = -(-(0x40 + len(KERNEL) + 4) // 16) * 16
    made = bytearray(bzimage(KERNEL, None, kernel_version=TEXT - 0x200, syssize=size // 16, **fields))
    made[:2], made[0x3C] = b"MZ", PE
    made[PE : PE + 4], made[PE + 24 : PE + 26] = b"PE\0\0", b"\x0b\x02"
    text = release + b" (who@where) #1 SMP\0" if release[:1].isdigit() else release
    made[TEXT : TEXT + len(text)] = text
    made = made[: SETUP + size].ljust(SETUP + size, b"\0")
    if seal:
        made[-4:] = struct.pack("<I", zlib.crc32(made[:-4]) ^ 0xFFFFFFFF)
    return made


def signed(made: bytearray) -> bytearray:
    """As sbsign leaves it: CheckSum, the table's place, and the table behind all else."""
    made[CHECKSUM : CHECKSUM + 4] = b"\x4c\xd4\xd8\x00"
    made[CERTIFICATES : CERTIFICATES + 8] = struct.pack("<II", len(made), 0x5C0)
    return made + b"\xc0\x05" + bytes(0x5BE)


def refused(made: bytes | bytearray) -> list[str]:
    try:
        read_payload(MemoryContent(bytes(made)), "vmlinuz")
    except InputError as error:
        return [problem.rule.id for problem in error.problems]
    return []


def flipped(made: bytearray, at: int) -> bytearray:
    return made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]


@pytest.mark.parametrize("sign", [False, True])
def test_one_bit_of_the_payload(sign: bool) -> None:
    """The file signed or not: what signing wrote is not of the build."""
    made = signed(image()) if sign else image()
    assert is_signed(MemoryContent(bytes(made))) is sign
    assert refused(made) == []
    assert refused(flipped(made, SETUP + 0x40 + len(KERNEL) - 9)) == ["BB-E025"]


def test_a_wrong_checksum() -> None:
    made = image()
    wrong = flipped(made, len(made) - 1)
    assert refused(wrong) == ["BB-E025"]
    said = wrong_checksum(MemoryContent(bytes(wrong)))
    assert said.startswith(f"the CRC-32 of its first {len(made):#x} bytes is 0x")


def test_the_table_of_certificates_is_not_summed() -> None:
    made = signed(image())
    assert refused(flipped(made, len(made) - 1)) == []


def test_a_file_that_ends_before_its_checksum() -> None:
    assert refused(image()[:-4]) == ["BB-E025"]
    assert wrong_checksum(MemoryContent(bytes(image()[:-4]))).endswith(f"and syssize says {len(image()):#x}")


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        (b"2.6.32-5-amd64", ["BB-E025"]),
        (b"6.15.9", ["BB-E025"]),
        (b"bootbuild\0", ["BB-E025"]),
        (b"6.16.0", []),  # builds have none since
        (b"7.0-rc1", []),
        (b"another 6.1", []),
        (b"memtest86+", []),
        (b"", []),
    ],
)
def test_who_promises_one(release: bytes, expected: list[str]) -> None:
    assert refused(image(release, seal=False)) == expected


def test_a_header_that_leads_outside() -> None:
    """kernel_version, the PE header and the directory anywhere: nothing is read that is not there."""
    for at, value in ((0x20E, b"\xff\xff"), (0x3C, b"\xff\xff\xff\xff"), (0x1F4, b"\xff\xff\xff\xff")):
        made = image()
        made[at : at + len(value)] = value
        assert refused(made) in ([], ["BB-E025"])


def test_init_size_is_not_below_what_the_kernel_itself_has() -> None:
    """Its segment has 0x1000 bytes; a header older than 2.10 has no such field."""
    assert refused(image(init_size=0x1000)) == []
    assert refused(image(init_size=0xFFF)) == ["BB-E026"]
    assert refused(image(init_size=0xFFF, version=0x209)) == []


@pytest.mark.parametrize("which", ["cloud", "generic", "newer"])
def test_a_debian_kernel_holds_it_until_a_bit_is_wrong(kernels: Any, which: str) -> None:
    content = open_content(getattr(kernels, which).vmlinuz)
    assert wrong_checksum(content) == ""
    middle = content.size // 2
    wrong = MemoryContent(bytes([content.read(middle, 1)[0] ^ 1]))
    pieces = (
        Piece(0, content, 0, content.size),
        Piece(middle, wrong, 0, 1),
    )
    assert "not 0" in wrong_checksum(SplicedContent(content.size, pieces))
