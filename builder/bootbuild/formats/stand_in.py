"""A stand-in for a packed kernel: a stream of its format that unpacks to the first bytes of it only."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bootbuild.errors import InputError
from bootbuild.formats.bzimage import (
    COMPRESSIONS,
    LZ4_MAGIC,
    Compression,
    header,
    is_bzimage,
    payload_span,
)
from bootbuild.model.content import Content
from bootbuild.model.payload import ElfImage

_KERNEL_64 = 1  #: bit XLF_KERNEL_64 of xloadflags
_ENTRY_64 = 0x200  #: bytes from the start of the protected-mode code to its 64-bit entry
_APPENDED = 4  #: bytes: the size of what is unpacked
_LZMA_SIZE = slice(5, 13)  #: the 64-bit size of what is unpacked, in an .lzma header


@dataclass(frozen=True)
class Packed:
    """A kernel as it lies in the file that it is packed in."""

    offset: int  #: in the file
    size: int  #: bytes, the size that is appended to some formats included
    unpacked: int  #: bytes that it states to unpack to
    compression: str
    entry: int | None = None  #: file offset of the decompressor's 64-bit entry; None if it has none

    def stand_in(self, head: bytes) -> tuple[tuple[int, bytes], ...]:
        """What to write into the packed kernel, at these offsets, for it to unpack to `head`.

        () where there is no way to do that. The decoders of Linux stop at the end of the stream, whatever
        follows it (lib/decompress_*.c).
        """
        make = _STAND_INS.get(self.compression)
        made = make(head) if make is not None else b""
        if not 0 < len(made) <= self.size - _APPENDED:
            return ()
        if self.compression == "lz4":  # a block has as many bytes as are left of the size that is appended
            return (0, made), (self.size - _APPENDED, struct.pack("<I", len(head)))
        return ((0, made),)


def packed_kernel(image: ElfImage) -> Packed | None:
    """Where the kernel lies in a bzImage; None for an image that did not come in one."""
    content = image.packing
    if content is None or not is_bzimage(content):
        return None
    try:
        start, length = payload_span(content, image.name)
    except InputError:  # a PE file that holds Linux may say so elsewhere
        return None
    magic, end = content.read(start, 8), content.read(start + length - 4, 4)
    found: Compression | None = next((c for c in COMPRESSIONS if magic.startswith(c.magics)), None)
    name = "" if found is None else found.name
    return Packed(start, length, int.from_bytes(end, "little"), name, _entry_64(content, start))


def _entry_64(content: Content, packed: int) -> int | None:
    """0x200 behind the start of the protected-mode code, if bit XLF_KERNEL_64 says so (boot.rst)."""
    fields = header(content)
    if not fields.get("xloadflags", 0) & _KERNEL_64:
        return None
    return packed - fields["payload_offset"] + _ENTRY_64


def _gzip(head: bytes) -> bytes:
    import gzip

    return gzip.compress(head, mtime=0)


def _bzip2(head: bytes) -> bytes:
    import bz2

    return bz2.compress(head)


def _lzma(head: bytes) -> bytes:
    import lzma

    made = bytearray(lzma.compress(head, format=lzma.FORMAT_ALONE))
    made[_LZMA_SIZE] = struct.pack("<Q", len(head))
    return bytes(made)


def _xz(head: bytes) -> bytes:
    import lzma

    # no BCJ filter: it would look at bytes behind those that it gives out
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    return lzma.compress(head, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)


def _lz4(head: bytes) -> bytes:
    from lz4.block import compress

    block: bytes = compress(head, store_size=False)
    return struct.pack("<II", LZ4_MAGIC, len(block)) + block + bytes(4)  # a block of no bytes ends it


def _zstd(head: bytes) -> bytes:
    import zstandard

    made: bytes = zstandard.ZstdCompressor().compress(head)
    return made


_STAND_INS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "lzma": _lzma,
    "xz": _xz,
    "lz4": _lz4,
    "zstd": _zstd,
}
