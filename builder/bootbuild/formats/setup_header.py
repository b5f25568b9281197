"""Writing fields of a bzImage's setup header, and the checksum at its end."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping

from bootbuild.formats.bzimage import FIELDS, header
from bootbuild.model.content import Content, chunks

CRC_SIZE = 4  #: bytes, the last ones of the file
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
    if content.read(0, 2) != b"MZ":
        return False
    pe = int.from_bytes(content.read(0x3C, 4), "little")
    optional = pe + 24
    wide = content.read(optional, 2) == b"\x0b\x02"  # PE32+
    size = content.read(optional + (112 if wide else 96) + 4 * 8 + 4, 4)
    return content.read(pe, 4) == b"PE\0\0" and any(size)
