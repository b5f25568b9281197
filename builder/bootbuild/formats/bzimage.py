"""The Linux bzImage: its setup header, and the ELF kernel compressed inside it."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.model.content import Content, DeferredContent, MemoryContent, joined

MAX_PACKED = 512 << 20  #: bytes; the largest, with an initramfs inside, have some hundred MiB
MAX_UNPACKED = 1 << 30  #: bytes
PIECE = 1 << 20  #: compressed bytes given to a library at a time
LZ4_BLOCK = 8 << 20  #: unpacked bytes of a legacy block at most (lz4 frame format, Legacy frame)
LZ4_BLOCKS = 2 * (MAX_UNPACKED // LZ4_BLOCK)  #: frames and blocks of a whole kernel at most
LZ4_MAGIC = 0x184C2102
ELF_MAGIC = b"\x7fELF"
SECTOR = 512
SIGNATURE = b"HdrS"
OLDEST_PROTOCOL = 0x0208
HEADER_END = 0x250  #: of the setup header of OLDEST_PROTOCOL: behind payload_length


class Field(NamedTuple):
    """One field of the setup header: Linux Documentation/arch/x86/boot.rst, The Real-Mode Kernel Header."""

    name: str
    offset: int  #: in the file
    size: int  #: bytes
    protocol: int  #: the version that brought it


FIELDS = (
    Field("setup_sects", 0x1F1, 1, 0),
    Field("root_flags", 0x1F2, 2, 0),
    Field("syssize", 0x1F4, 4, 0x0204),
    Field("vid_mode", 0x1FA, 2, 0),
    Field("boot_flag", 0x1FE, 2, 0),
    Field("version", 0x206, 2, 0x0200),
    Field("kernel_version", 0x20E, 2, 0x0200),
    Field("loadflags", 0x211, 1, 0x0200),
    Field("code32_start", 0x214, 4, 0x0200),
    Field("initrd_addr_max", 0x22C, 4, 0x0203),
    Field("kernel_alignment", 0x230, 4, 0x0205),
    Field("relocatable_kernel", 0x234, 1, 0x0205),
    Field("min_alignment", 0x235, 1, 0x020A),
    Field("xloadflags", 0x236, 2, 0x020C),
    Field("cmdline_size", 0x238, 4, 0x0206),
    Field("hardware_subarch", 0x23C, 4, 0x0207),
    Field("hardware_subarch_data", 0x240, 8, 0x0207),
    Field("payload_offset", 0x248, 4, 0x0208),
    Field("payload_length", 0x24C, 4, 0x0208),
    Field("setup_data", 0x250, 8, 0x0209),
    Field("pref_address", 0x258, 8, 0x020A),
    Field("init_size", 0x260, 4, 0x020A),
    Field("handover_offset", 0x264, 4, 0x020B),
    Field("kernel_info_offset", 0x268, 4, 0x020F),
)


def is_bzimage(content: Content) -> bool:
    """Whether `HdrS` stands where every bzImage has it."""
    return content.read(0x202, 4) == SIGNATURE


def header(content: Content) -> Mapping[str, int]:
    """The setup header's fields that its protocol version has, by name. `is_bzimage` must hold.

    Fields outside a truncated file are left out.
    """
    raw = content.read(0, 0x280)
    version = int.from_bytes(raw[0x206:0x208], "little")
    return {
        field.name: int.from_bytes(raw[field.offset : field.offset + field.size], "little")
        for field in FIELDS
        if field.protocol <= version and field.offset + field.size <= len(raw)
    }


class _Output:
    """The unpacked kernel, in parts: as they come, but small ones are put together, of whom many may come."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.at = 0
        self._parts: list[bytes | bytearray | DeferredContent] = []
        self._small = bytearray()  #: the last part, as long as it grows

    def write(self, data: bytes | memoryview, again: Callable[[], bytes] | None = None) -> None:
        """Raises ValueError when more comes than was promised. What `again` makes once more is not kept."""
        if self.at + len(data) > self.size:
            raise ValueError(f"it unpacks to more than the {self.size} bytes that it states")
        self.at += len(data)
        if isinstance(data, bytes) and len(data) >= PIECE:
            self._parts.append(DeferredContent(len(data), again) if again else data)
            self._small = bytearray()
            return
        if not self._small:
            self._parts.append(self._small)
        self._small += data
        if len(self._small) >= PIECE:
            self._small = bytearray()

    def content(self, room: int) -> Content:
        """All that was written, and `room` zeros."""
        parts = (one if isinstance(one, DeferredContent) else MemoryContent(one) for one in self._parts)
        return joined([*parts, MemoryContent(bytes(room))])


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  #: malloc.h
_LARGEST_KEPT = 32 << 20  #: bytes; the most that glibc takes


@functools.cache
def _keep_heap() -> None:
    """Have glibc keep what is freed for the next block: 8 MiB are else given back, and zeroed, each time.

    That takes as long as to unpack them. mallopt(3); other C libraries have none.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT)


def _lz4(data: memoryview, out: _Output) -> None:
    """Unpack each block, and again those that are read: of a kernel's few are, if it is not built anew.

    Memory for all of them takes longer than to unpack them.
    """
    from lz4.block import LZ4BlockError, decompress

    _keep_heap()
    at = blocks = 0
    while at < len(data):
        if len(data) - at < 4:
            raise ValueError("a block ends in its size")
        blocks += 1
        if blocks > LZ4_BLOCKS:
            raise ValueError("too many blocks")
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if size == LZ4_MAGIC:  # frames may follow each other
            continue
        if size > len(data) - at:
            raise ValueError("a block runs over the end")
        try:
            # One byte more than there may be, so that a block that is too long is told from a broken one.
            room = min(LZ4_BLOCK, out.size - out.at + 1)
            again = functools.partial(decompress, data[at : at + size], uncompressed_size=room)
            out.write(again(), again)
        except LZ4BlockError as error:
            raise ValueError(str(error)) from None
        at += size


def _zstd(data: memoryview, out: _Output) -> None:
    import zstandard

    # Linux compresses with a window of up to 128 MiB (scripts/Makefile.lib: zstd -22 --ultra).
    context = zstandard.ZstdDecompressor(max_window_size=128 << 20)
    try:
        with context.stream_reader(data, read_across_frames=True, closefd=False) as reader:
            while part := reader.read(PIECE):
                out.write(part)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _gzip(data: memoryview, out: _Output) -> None:
    import zlib

    state = zlib.decompressobj(wbits=31)
    try:
        for at in range(0, len(data), PIECE):
            rest: bytes | memoryview = data[at : at + PIECE]
            while rest and not state.eof:
                out.write(state.decompress(rest, PIECE))
                rest = state.unconsumed_tail
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not state.eof:
        raise ValueError("it ends before its own end mark")


def _bzip2(data: memoryview, out: _Output) -> None:
    import bz2

    state = bz2.BZ2Decompressor()
    _stream(state.decompress, lambda: state.needs_input, lambda: state.eof, data, out)


def _lzma(data: memoryview, out: _Output) -> None:
    import lzma

    kind = lzma.FORMAT_XZ if data[0] == 0xFD else lzma.FORMAT_ALONE
    # Linux's xz dictionary is 128 MiB since 6.12, 32 before (scripts/xz_wrap.sh); lzma -9 takes 64 MiB.
    state = lzma.LZMADecompressor(format=kind, memlimit=160 << 20)
    try:
        _stream(state.decompress, lambda: state.needs_input, lambda: state.eof, data, out)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None


def _lzo(data: memoryview, out: _Output) -> None:
    from bootbuild.formats import lzop

    lzop.unpack(data, out.write)


def _stream(
    decompress: Callable[[bytes, int], bytes],
    needs_input: Callable[[], bool],
    eof: Callable[[], bool],
    data: memoryview,
    out: _Output,
) -> None:
    """Drive a decompressor of the standard library piece by piece; ValueError as in `_Output.write`."""
    at = 0
    try:
        while not eof():
            piece = b""
            if needs_input():
                piece = bytes(data[at : at + PIECE])
                at += len(piece)
                if not piece:
                    raise ValueError("it ends before its own end mark")
            out.write(decompress(piece, PIECE))
    except (OSError, EOFError) as error:
        raise ValueError(str(error)) from None


class Compression(NamedTuple):
    """One way in which Linux compresses itself: boot.rst, payload_offset."""

    name: str
    magics: tuple[bytes, ...]
    unpack: Callable[[memoryview, _Output], None]
    appended: int = 4  #: bytes of the size that follow the compressed data; gzip's own trailer has it
    extra: str = ""  #: of bootbuild, which brings its library; the other libraries always come along


COMPRESSIONS = (
    Compression("gzip", (b"\x1f\x8b", b"\x1f\x9e"), _gzip, appended=0),
    Compression("bzip2", (b"BZh",), _bzip2),
    Compression("lzma", (b"\x5d\x00",), _lzma),
    Compression("xz", (b"\xfd7zXZ",), _lzma),
    Compression("lzo", (b"\x89LZO",), _lzo, extra="lzo"),
    Compression("lz4", (b"\x02\x21\x4c\x18", b"\x02\x21"), _lz4),
    Compression("zstd", (b"\x28\xb5\x2f\xfd",), _zstd),
)


def payload_span(content: Content, name: str) -> tuple[int, int]:
    """File offset and length of the compressed kernel. Raises InputError (BB-E020, BB-E021)."""
    fields = header(content)
    if not is_bzimage(content):
        raise InputError(Problem(rules.BZIMAGE_HEADER, f"{name}@0x202", "`HdrS` is missing"))
    if content.size < HEADER_END:
        raise InputError(Problem(rules.BZIMAGE_HEADER, name, "the file ends inside the setup header"))
    version = int.from_bytes(content.read(0x206, 2), "little")  # no field of a header older than 2.00
    if version < OLDEST_PROTOCOL:
        text = f"boot protocol {version >> 8}.{version & 255:02}; payload_offset came with 2.08"
        raise InputError(Problem(rules.BZIMAGE_HEADER, f"{name}@0x206", text))
    # 0 stands for 4, for historical reasons (boot.rst, setup_sects).
    start = ((fields["setup_sects"] or 4) + 1) * SECTOR + fields["payload_offset"]
    length = fields["payload_length"]
    if length < 8 or start + length > content.size:
        text = f"{length:#x} bytes at {start:#x} in a file of {content.size:#x} bytes"
        raise InputError(Problem(rules.BZIMAGE_PAYLOAD, f"{name}@0x248", text))
    if length > MAX_PACKED:
        raise InputError(Problem(rules.UNPACKED_SIZE, f"{name}@0x24c", f"{length} bytes packed"))
    return start, length


def unpack(content: Content, name: str) -> tuple[Content, str]:
    """The vmlinux inside a bzImage, and the name of its compression.

    What is unpacked is what the kernel's own decompressor would see: the ELF file, with its relocations
    appended where it has some; "stored" if it is not compressed. Raises InputError (BB-E020 to BB-E024).
    """
    start, length = payload_span(content, name)
    packed = memoryview(content.read(start, length))
    where = f"{name}@{start:#x}"
    if packed[:4].tobytes() == ELF_MAGIC:  # as it is, without a size behind it
        return MemoryContent(packed), "stored"
    compression = next((c for c in COMPRESSIONS if packed[:8].tobytes().startswith(c.magics)), None)
    if compression is None:
        raise InputError(Problem(rules.COMPRESSION, where, f"begins with {packed[:8].hex(' ')}"))
    size = int.from_bytes(packed[-4:], "little")
    if not 0 < size <= MAX_UNPACKED:
        raise InputError(Problem(rules.UNPACKED_SIZE, where, f"it states {size} bytes unpacked"))
    try:
        return _undo(compression, packed, size, 0), compression.name
    except ModuleNotFoundError as error:
        if not compression.extra:
            raise
        text = f"{compression.name}: the Python package {error.name} is required to undo it"
        remedy = f"pip install 'bootbuild[{compression.extra}]', or {rules.COMPRESSION.remedy}"
        raise InputError(Problem(rules.COMPRESSION, where, text, remedy)) from None
    except ValueError as error:
        text = f"{compression.name}: {error}"
        raise InputError(Problem(rules.COMPRESSED_DATA, where, text)) from None


def decompress(name: str, packed: bytes, room: int = 0) -> Content:
    """What `bootbuild.api.decompress` promises."""
    size = int.from_bytes(packed[-4:], "little")
    compression = next((c for c in COMPRESSIONS if c.name == name), None)
    if compression is None or len(packed) < 8 or not 0 < size <= MAX_UNPACKED:
        raise ValueError(f"{name}: {len(packed)} bytes that state {size} bytes unpacked")
    return _undo(compression, memoryview(packed), size, room)


def _undo(compression: Compression, packed: memoryview, size: int, room: int) -> Content:
    """Unpack exactly `size` bytes, and leave `room` zeros after them. Raises ValueError."""
    out = _Output(size)
    compression.unpack(packed[: len(packed) - compression.appended], out)
    if out.at != size:
        raise ValueError(f"it unpacks to {out.at} bytes and states {size}")
    return out.content(room)
