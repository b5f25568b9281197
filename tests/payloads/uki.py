"""A unified kernel image: systemd's stub, a PE, with one section more, as ukify adds it."""

from __future__ import annotations

import struct

FLAGS = 0x60000020  #: IMAGE_SCN_*: code, readable, executable
FILE_ALIGN = 0x200


def uki(stub: bytes, kernel: bytes) -> bytes:
    """The stub with `kernel` as its `.linux`."""
    at = int.from_bytes(stub[0x3C:0x40], "little")
    (count,) = struct.unpack_from("<H", stub, at + 6)
    (optional,) = struct.unpack_from("<H", stub, at + 20)
    (alignment,) = struct.unpack_from("<I", stub, at + 24 + 32)
    table = at + 24 + optional
    ends = [sum(struct.unpack_from("<II", stub, table + 40 * i + 8)) for i in range(count)]
    address = _up(max(ends), max(alignment, 0x1000))
    whole = bytearray(stub.ljust(_up(len(stub), FILE_ALIGN), b"\0"))
    raw = _up(len(kernel), FILE_ALIGN)
    header = struct.pack("<8s4I12xI", b".linux", len(kernel), address, raw, len(whole), FLAGS)
    whole[table + 40 * count : table + 40 * count + 40] = header
    struct.pack_into("<H", whole, at + 6, count + 1)
    struct.pack_into("<I", whole, at + 24 + 56, _up(address + len(kernel), alignment))
    return bytes(whole) + kernel.ljust(raw, b"\0")


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
