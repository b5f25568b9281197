"""The container of lzop, in which Linux keeps itself when it is compressed with LZO.

lzop's conf.h and lzop.c 1.04; Linux lib/decompress_unlzo.c, which reads the same and whose limits hold here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

MAGIC = b"\x89LZO\0\r\n\x1a\n"
BLOCK = 256 << 10  #: unpacked bytes of a block at most: decompress_unlzo.c LZO_BLOCK_SIZE
OLDEST = 0x0940  #: version of lzop that gave the header its form
METHODS = (1, 2, 3)  #: LZO1X-1, LZO1X-1(15), LZO1X-999: one decompressor does for all

ADLER32_D, ADLER32_C, CRC32_D, CRC32_C = 0x1, 0x2, 0x100, 0x200  #: checksums of a block: plain, compressed
EXTRA_FIELD, MULTIPART, FILTER, HEADER_CRC32 = 0x40, 0x400, 0x800, 0x1000


class _Reader:
    """Big-endian numbers and bytes, one after the other. Raises ValueError at the end."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self.at:
            raise ValueError(f"it ends {size - (len(self._data) - self.at)} bytes early, at {self.at:#x}")
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")


def unpack(data: memoryview, write: Callable[[bytes | memoryview], None]) -> None:
    """Unpack a file of lzop's, a block of at most 256 KiB at a time; whatever checksums it has are verified.

    Raises ValueError where it is damaged or has what Linux does not know, ModuleNotFoundError without the
    library (extra `lzo`). The library finds out itself how much a block holds: a hostile one may take some
    100 MiB for a moment.
    """
    from lzallright import LZOCompressor, LZOError

    reader = _Reader(data)
    flags = _header(reader, data)
    while size := reader.number(4):
        where = f"block at {reader.at - 4:#x}"
        packed = reader.number(4)
        if size > BLOCK or not 0 < packed <= size:
            raise ValueError(f"{where}: {packed} bytes for {size}, of which a block has at most {BLOCK}")
        plain = _sums(reader, flags, ADLER32_D, CRC32_D)
        # What did not get smaller is stored as it is, without a second checksum.
        squeezed = _sums(reader, flags, ADLER32_C, CRC32_C) if packed < size else ()
        block: bytes | memoryview = reader.take(packed)
        _verify(block, squeezed, where, "compressed ")
        if packed < size:
            try:
                block = LZOCompressor.decompress(block, size)
            except LZOError as error:
                reason = str(error.args[0]).removeprefix("EResult.")
                raise ValueError(f"{where}: not what LZO makes ({reason})") from None
            if len(block) != size:
                raise ValueError(f"{where}: unpacks to {len(block)} bytes and states {size}")
        _verify(block, plain, where, "")
        write(block)


def _header(reader: _Reader, data: memoryview) -> int:
    """Check the file's header; its flags."""
    if reader.take(len(MAGIC)) != MAGIC:
        raise ValueError("no file of lzop's")
    version = reader.number(2)
    if version < OLDEST:
        raise ValueError(f"made by lzop {version:#06x}, older than {OLDEST:#06x}")
    reader.take(4)  # version of the library, version needed to extract
    method = reader.number(1)
    reader.take(1)  # level
    flags = reader.number(4)
    if method not in METHODS or flags & (EXTRA_FIELD | MULTIPART | FILTER):
        raise ValueError(f"method {method} with flags {flags:#x} is not what Linux is compressed with")
    reader.take(12)  # mode and time of the file
    reader.take(reader.number(1))  # its name
    head = data[len(MAGIC) : reader.at]
    wanted = zlib.crc32(head) if flags & HEADER_CRC32 else zlib.adler32(head)
    if reader.number(4) != wanted:
        raise ValueError("the header's checksum is wrong")
    return flags


def _sums(
    reader: _Reader, flags: int, adler32: int, crc32: int
) -> tuple[tuple[Callable[..., int], int], ...]:
    """The checksums that stand here: (function, value)."""
    kinds = ((adler32, zlib.adler32), (crc32, zlib.crc32))
    return tuple((function, reader.number(4)) for flag, function in kinds if flags & flag)


def _verify(
    block: bytes | memoryview, sums: tuple[tuple[Callable[..., int], int], ...], where: str, what: str
) -> None:
    for function, value in sums:
        if function(block) != value:
            raise ValueError(f"{where}: the {what}data's {function.__name__} is wrong")
