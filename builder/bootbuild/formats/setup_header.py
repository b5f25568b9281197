"""Writing fields of a bzImage's setup header, and the checksum at its end."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from bootbuild.formats.bzimage import FIELDS, SECTOR, header
from bootbuild.model.content import Content, chunks

CRC_SIZE = 4  #: bytes, the last ones of the file
#: the text of kernel_version: arch/x86/boot/version.c
_RELEASE = re.compile(rb"(\d{1,3})\.(\d{1,3})[.-][^ ]* \([^@]*@[^)]*\) #")
_WITHOUT = (6, 16)  #: the first release of Linux whose build adds no checksum
_OWN = b"bootbuild\0"  #: the same text of ours
_FIELDS = {field.name: field for field in FIELDS}


def put(data: bytearray, name: str, value: int) -> None:
    """Write a field of the header in `data`, the start of a file. OverflowError if the value does not fit."""
    field = _FIELDS[name]
    data[field.offset : field.offset + field.size] = value.to_bytes(field.size, "little")


def checksum(parts: Iterable[bytes | bytearray | memoryview]) -> int:
    """What stands behind these bytes: CRC-32 without the last inversion (Linux up to 6.15, tools/build.c)."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc ^ 0xFFFFFFFF


def sums_up(content: Content) -> bool:
    """Whether the file ends with its checksum."""
    stated = content.read(content.size - CRC_SIZE, CRC_SIZE)
    return checksum(chunks(content, 0, content.size - CRC_SIZE)) == int.from_bytes(stated, "little")


def _lower(own: int, asked: int) -> str:
    return f"is {own:#x}, and can only be lowered" if asked > own else ""


def _higher(own: int, asked: int) -> str:
    return f"is {own:#x}, and can only be raised" if asked < own else ""


def _fewer(own: int, asked: int) -> str:
    return f"is {own:#x}, of which bits can only be cleared" if asked & ~own else ""


def _power(own: int, asked: int) -> str:
    return _higher(own, asked) or ("has to be a power of 2" if asked & (asked - 1) else "")


def _any(_own: int, _asked: int) -> str:
    return ""


#: Fields that may be set in a kernel that is there, and what is against a value. The others are compiled in,
#: or the loader's.
SETTABLE: Mapping[str, Callable[[int, int], str]] = {
    "root_flags": _any,
    "vid_mode": _any,
    "initrd_addr_max": _lower,
    "kernel_alignment": _power,
    "relocatable_kernel": _lower,
    "min_alignment": _higher,
    "xloadflags": _fewer,
    "cmdline_size": _lower,
    "init_size": _higher,
}


def objections(content: Content, fields: Iterable[tuple[str, int]]) -> list[str]:
    """Why the bzImage in `content` cannot have these fields."""
    own = header(content)
    found = []
    for name, value in fields:
        if name not in SETTABLE:
            found.append(f"{name} cannot be set; {', '.join(SETTABLE)} can")
        elif name not in own:
            found.append(f"{name}: its header has no such field")
        elif value >= 1 << 8 * _FIELDS[name].size:
            found.append(f"{name}: {value:#x} does not fit its {_FIELDS[name].size} bytes")
        elif said := SETTABLE[name](own[name], value):
            found.append(f"{name} {said}: {value:#x}")
    return found


def is_signed(content: Content) -> bool:
    """Whether a PE file has a certificate table (PE format, Optional Header Data Directories, index 4)."""
    certificates = _signed_places(content)[1:]
    return any(any(content.read(at, size)) for at, size in certificates)


def _signed_places(content: Content) -> tuple[tuple[int, int], ...]:
    """File offset and size of what signing writes in a PE header: CheckSum, and that table's place."""
    pe = int.from_bytes(content.read(0x3C, 4), "little")
    if content.read(0, 2) != b"MZ" or content.read(pe, 4) != b"PE\0\0":
        return ()
    optional = pe + 24
    wide = content.read(optional, 2) == b"\x0b\x02"  # PE32+
    return (optional + 64, 4), (optional + (112 if wide else 96) + 4 * 8, 8)


def wrong_checksum(content: Content) -> str:
    """Why a bzImage is not as it was built; "" if its checksum holds, or its build adds none.

    Linux's build leaves zeros where signing writes. `is_bzimage` must hold.
    """
    fields = header(content)
    at = fields.get("kernel_version", 0)
    text = content.read(SECTOR + at, 256) if at else b""
    release = _RELEASE.match(text)
    if not text.startswith(_OWN) and (
        release is None or (int(release[1]), int(release[2])) >= _WITHOUT or "syssize" not in fields
    ):
        return ""
    setup = ((fields["setup_sects"] or 4) + 1) * SECTOR
    end = setup + fields["syssize"] * 16
    if end > content.size:
        return f"it ends at {content.size:#x}, and syssize says {end:#x}"
    head = bytearray(content.read(0, setup))
    for place, size in _signed_places(content):
        if place + size <= setup:
            head[place : place + size] = bytes(size)
    left = checksum(chain([head], chunks(content, setup, end - setup)))
    return f"the CRC-32 of its first {end:#x} bytes is {left:#x}, not 0" if left else ""
