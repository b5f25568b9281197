"""Files as lzop writes them, block by block, so that tests can break one thing at a time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

from bootbuild.formats import lzop
from bootbuild.formats.lzop import ADLER32_C, ADLER32_D, BLOCK, CRC32_C, CRC32_D, HEADER_CRC32

END = bytes(4)


def header(flags: int = ADLER32_D, version: int = 0x1040, method: int = 3, name: bytes = b"") -> bytes:
    """lzop's header, in the form that it has since version 0.94."""
    extracts, level, mode, time = 0x0940, 9, 0o100644, 0
    head = struct.pack(
        ">HHHBBIIIIB", version, 0x20A0, extracts, method, level, flags, mode, time, 0, len(name)
    )
    head += name
    checksum = zlib.crc32 if flags & HEADER_CRC32 else zlib.adler32
    return lzop.MAGIC + head + struct.pack(">I", checksum(head))


def block(plain: bytes, flags: int = ADLER32_D, packed: bytes = b"", size: int = 0, length: int = 0) -> bytes:
    """One block of `plain`; what is given replaces what would be right."""
    from lzallright import LZOCompressor

    packed = packed or min(LZOCompressor().compress(plain), plain, key=len)
    out = struct.pack(">II", size or len(plain), length or len(packed))
    sums: list[tuple[int, Callable[[bytes], int], bytes]] = [
        (ADLER32_D, zlib.adler32, plain),
        (CRC32_D, zlib.crc32, plain),
    ]
    if len(packed) < len(plain):
        sums += [(ADLER32_C, zlib.adler32, packed), (CRC32_C, zlib.crc32, packed)]
    return (
        out
        + b"".join(struct.pack(">I", function(data)) for flag, function, data in sums if flags & flag)
        + packed
    )


def file(plain: bytes, flags: int = ADLER32_D, **fields: Any) -> bytes:
    """A whole file of `plain`."""
    blocks = (block(plain[at : at + BLOCK], flags) for at in range(0, len(plain), BLOCK))
    return header(flags, **fields) + b"".join(blocks) + END
