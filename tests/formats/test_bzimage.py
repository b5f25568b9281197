"""A bzImage gives its vmlinux, whatever Linux compressed it with; a damaged one gives the rule it breaks."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootbuild.errors import InputError
from bootbuild.formats import bzimage as reader
from bootbuild.formats.bzimage import LZ4_BLOCK, MAX_UNPACKED, unpack
from bootbuild.model.content import Content, FileContent, MemoryContent, digest
from peak_memory import peak
from tiny_bzimage import bzimage
from tiny_lzop import file

KERNEL = b"\x7fELF" + bytes(range(256)) * 40_000  # more than one LZ4 block


def lz4(data: bytes) -> bytes:
    """`lz4 -l`: the legacy frame."""
    from lz4.block import compress

    out = struct.pack("<I", 0x184C2102)
    for at in range(0, len(data), 8 << 20):
        block = compress(data[at : at + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


def xz(data: bytes) -> bytes:
    """As Linux's scripts/xz_wrap.sh: CRC32, x86 BCJ."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)


def alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE, preset=1)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "bzip2": lambda data: bz2.compress(data, 1),
    "lzma": alone,
    "xz": xz,
    "lzo": file,
    "lz4": lz4,
    "zstd": zstd,
}


def of(name: str, data: bytes = KERNEL, **fields: int) -> bytes:
    return bzimage(PACKERS[name](data), None if name == "gzip" else len(data), **fields)


def broken(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        unpack(MemoryContent(data), "vmlinuz")
    (problem,) = caught.value.problems
    assert problem.where.startswith("vmlinuz")
    return problem.rule.id


@pytest.mark.parametrize("name", PACKERS)
def test_each_compression_gives_back_the_kernel(name: str) -> None:
    content, found = unpack(MemoryContent(of(name)), "vmlinuz")
    assert found == name
    assert content.size == len(KERNEL)
    assert content.read(0, content.size) == KERNEL


def test_setup_sects_0_stands_for_4() -> None:
    content, _ = unpack(MemoryContent(of("gzip", setup_sects=0)), "vmlinuz")
    assert content.size == len(KERNEL)


def test_a_payload_may_end_with_the_file() -> None:
    # What lies between them is then its size: zeros.
    assert broken(over_the_end(0)) == "BB-E024"
    content, _ = unpack(MemoryContent(of("gzip", SMALL)[:-16]), "vmlinuz")
    assert content.size == len(SMALL)


#: How loaders put a kernel into memory, of which what is packed in it is independent.
FOR_LOADERS = [
    {"boot_flag": 0},
    {"loadflags": 0},  # a zImage's, at 64 KiB
    {"version": 0x0208, "xloadflags": 0, "pref_address": 0, "handover_offset": 0},  # Linux 2.6.26
    {"relocatable_kernel": 0, "kernel_alignment": 0, "min_alignment": 0},
    {"xloadflags": 0, "handover_offset": 0x10},  # a 32-bit kernel
]


@pytest.mark.parametrize("fields", FOR_LOADERS, ids="-".join)
def test_what_is_said_to_loaders_is_no_matter(fields: dict[str, int]) -> None:
    image = MemoryContent(of("zstd", SMALL, **fields))
    content, _ = unpack(image, "vmlinuz")
    assert content.read(0, content.size) == SMALL
    found = reader.header(image)
    assert all(found[name] == value for name, value in fields.items() if name in found)


def test_lz4_blocks_are_kept_once_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are unpacked at once, so that what is broken is found, but only what is read takes memory."""
    import lz4.block

    sizes: list[int] = []

    def decompress(block: memoryview, uncompressed_size: int) -> bytes:
        data: bytes = decompressed(block, uncompressed_size=uncompressed_size)
        sizes.append(len(data))
        return data

    decompressed = lz4.block.decompress
    monkeypatch.setattr(lz4.block, "decompress", decompress)
    content, _ = unpack(MemoryContent(of("lz4", KERNEL)), "vmlinuz")
    first, second = LZ4_BLOCK, len(KERNEL) - LZ4_BLOCK
    assert sizes == [first, second]
    assert content.read(LZ4_BLOCK, 8) == KERNEL[LZ4_BLOCK : LZ4_BLOCK + 8]
    assert sizes == [first, second, second]
    assert content.read(0, content.size) == KERNEL
    assert content.read(0, content.size) == KERNEL
    assert sizes == [first, second, second, first]


def test_lz4_frames_may_follow_each_other() -> None:
    data = KERNEL[:1000]
    content, _ = unpack(MemoryContent(bzimage(lz4(data[:500]) + lz4(data[500:]), 1000)), "vmlinuz")
    assert content.read(0, 1000) == data


SMALL = KERNEL[:5000]


def over_the_end(by: int) -> bytes:
    """A file in which the payload and what follows it end `by` bytes behind the file's end."""
    data = of("gzip", SMALL)
    return of("gzip", SMALL, payload_length=len(data) - 5 * 512 - 0x40 + by)


BROKEN = [
    ("no HdrS", lambda: of("gzip").replace(b"HdrS", b"HdrX"), "BB-E020"),
    ("protocol 2.07", lambda: of("gzip", version=0x0207), "BB-E020"),
    ("protocol 1.99", lambda: of("gzip", version=0x01FF), "BB-E020"),
    ("ends before the version", lambda: of("gzip")[:0x206], "BB-E020"),
    ("ends in the setup header", lambda: of("gzip")[:0x24F], "BB-E020"),
    ("ends behind the setup header", lambda: of("gzip")[:0x250], "BB-E021"),
    ("payload behind the file", lambda: of("gzip", payload_offset=0xFFFFFFFF), "BB-E021"),
    ("payload over the end", lambda: of("gzip", payload_length=0xFFFFFFFF), "BB-E021"),
    ("payload one byte over the end", lambda: over_the_end(1), "BB-E021"),
    ("more sectors than the file has", lambda: of("gzip", SMALL, setup_sects=255), "BB-E021"),
    ("other sectors than the payload lies behind", lambda: of("gzip", setup_sects=3), "BB-E022"),
    ("empty payload", lambda: of("gzip", payload_length=0), "BB-E021"),
    ("payload that has only a size", lambda: of("gzip", payload_length=7), "BB-E021"),
    ("first byte left out", lambda: of("xz", SMALL, payload_offset=0x41), "BB-E022"),
    ("unknown compression", lambda: bzimage(b"MAGIC" + bytes(99), 100), "BB-E022"),
    ("states nothing", lambda: bzimage(xz(SMALL), 0), "BB-E024"),
    ("states more than 1 GiB", lambda: bzimage(xz(SMALL), MAX_UNPACKED + 1), "BB-E024"),
]


@pytest.mark.parametrize(("make", "rule"), [pytest.param(m, r, id=n) for n, m, r in BROKEN])
def test_one_mutation_breaks_its_rule(make: Callable[[], bytes], rule: str) -> None:
    assert broken(make()) == rule


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("stated", [-1, 1], ids=["less", "more"])
def test_a_kernel_of_another_size_than_stated_is_refused(name: str, stated: int) -> None:
    packed = PACKERS[name](SMALL)
    if name == "gzip":
        packed = packed[:-4] + struct.pack("<I", len(SMALL) + stated)
        assert broken(bzimage(packed, None)) == "BB-E023"
    else:
        assert broken(bzimage(packed, len(SMALL) + stated)) == "BB-E023"


@pytest.mark.parametrize("name", PACKERS)
def test_a_truncated_stream_is_refused(name: str) -> None:
    packed = PACKERS[name](SMALL)
    for cut in (len(packed) // 2, len(packed) - 9):
        assert broken(bzimage(packed[:cut], len(SMALL))) == "BB-E023"


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_stops_at_the_stated_size(name: str) -> None:
    bomb = PACKERS[name](bytes(64 << 20))
    begin = time.perf_counter()
    if name == "gzip":
        bomb = bomb[:-4] + struct.pack("<I", 4096)
        assert broken(bzimage(bomb, None)) == "BB-E023"
    else:
        assert broken(bzimage(bomb, 4096)) == "BB-E023"
    assert time.perf_counter() - begin < 2


REFUSE = """
try:
    bzimage.unpack(content, "vmlinuz")
except InputError as error:
    print(error.problems[0].rule.id)
"""
BEFORE = """
import sys
from bootbuild.errors import InputError
from bootbuild.formats import bzimage, lzop
from bootbuild.model.content import MemoryContent
import bz2, lzallright, lz4.block, lzma, zlib, zstandard
content = MemoryContent(sys.stdin.buffer.read())
"""


def test_what_is_stated_costs_no_memory_until_it_comes() -> None:
    grown, rule = peak(BEFORE, REFUSE, bzimage(xz(SMALL), MAX_UNPACKED))
    assert rule == "BB-E023"
    assert grown < 16 << 20


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_takes_no_memory_to_speak_of(name: str) -> None:
    bomb = PACKERS[name](bytes(1 << 28))
    image = bzimage(bomb[:-4] + struct.pack("<I", 4096), None) if name == "gzip" else bzimage(bomb, 4096)
    grown, rule = peak(BEFORE, REFUSE, image)
    assert rule == "BB-E023"
    assert grown < 2 * len(image) + (32 << 20)


def wide_lzma() -> bytes:
    packed = alone(SMALL)
    return packed[:1] + struct.pack("<I", 1 << 31) + packed[5:]


def wide_xz() -> bytes:
    packed = bytearray(xz(SMALL))
    packed[packed.index(b"\x21\x01") + 2] = 40  # 4 GiB - 1: xz-file-format.txt 5.3.1
    end = 12 + 4 * packed[12]  # of the block header, before its CRC
    struct.pack_into("<I", packed, end, zlib.crc32(packed[12:end]))
    return bytes(packed)


def wide_zstd() -> bytes:
    packed = bytearray(zstd(SMALL))
    packed[5] = 18 << 3  # 256 MiB: RFC 8878, 3.1.1.1.2
    return bytes(packed)


@pytest.mark.parametrize("make", [wide_lzma, wide_xz, wide_zstd])
def test_a_window_that_linux_has_no_use_for_is_refused(make: Callable[[], bytes]) -> None:
    grown, rule = peak(BEFORE, REFUSE, bzimage(make(), len(SMALL)))
    assert rule == "BB-E023"
    assert grown < 16 << 20


def refusal(content: Content) -> str:
    with pytest.raises(InputError) as caught:
        unpack(content, "vmlinuz")
    return str(caught.value)


def test_endless_empty_lz4_frames_end() -> None:
    assert "lz4: too many blocks (BB-E023)" in refusal(
        MemoryContent(bzimage(struct.pack("<I", 0x184C2102) * 1000, 1000))
    )


def test_too_much_packed_is_refused_before_it_is_read() -> None:
    class Huge(MemoryContent):
        size = 1 << 32

        def read_into(self, offset: int, buffer: memoryview) -> int:
            pytest.fail("it was read")

    content = Huge(of("xz", SMALL, payload_length=(512 << 20) + 1))
    assert "vmlinuz@0x24c: 536870913 bytes packed (BB-E024)" in refusal(content)


def test_gzip_that_never_ends_is_refused() -> None:
    state = zlib.compressobj(wbits=31)
    packed = state.compress(SMALL) + state.flush(zlib.Z_SYNC_FLUSH)
    # All data is there; the size behind it begins like another, stored block.
    assert len(SMALL) % 8 == 0
    image = bzimage(packed, len(SMALL))
    assert "gzip: it ends before its own end mark (BB-E023)" in refusal(MemoryContent(image))


def test_a_library_that_bootbuild_always_has_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    image = MemoryContent(of("lz4", SMALL))
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    with pytest.raises(ModuleNotFoundError):
        unpack(image, "vmlinuz")


def test_the_header_has_the_fields_of_its_protocol() -> None:
    new = reader.header(MemoryContent(of("gzip")))
    assert (new["version"], new["payload_offset"]) == (0x020F, 0x40)
    assert set(new) == {field.name for field in reader.FIELDS}
    old = reader.header(MemoryContent(of("gzip", version=0x0206)))
    assert "cmdline_size" in old
    assert "payload_offset" not in old


@pytest.mark.parametrize("which", ["cloud", "generic", "newer"])
def test_a_debian_kernel_unpacks_to_its_vmlinux(kernels: Any, which: str) -> None:
    kernel = getattr(kernels, which)
    content = FileContent(kernel.vmlinuz)
    begin = time.perf_counter()
    unpacked, name = unpack(content, "vmlinuz")
    spent = time.perf_counter() - begin
    assert name == {"cloud": "lz4", "generic": "xz", "newer": "zstd"}[which]
    assert digest(unpacked) == digest(FileContent(kernel.vmlinux))
    if name == "lz4":
        assert spent < 1  # 0.03 s on an idle core
    assert reader.header(content)["pref_address"] == 0x1000000


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(PACKERS)),
    patches=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=4),
)
def test_random_damage_is_unpacked_or_refused(name: str, patches: list[tuple[int, bytes]]) -> None:
    data = bytearray(of(name, SMALL))
    for place, patch in patches:
        at = place % len(data)
        data[at : at + len(patch)] = patch[: len(data) - at]
    try:
        content, _ = unpack(MemoryContent(data), "vmlinuz")
    except InputError:
        return
    assert content.size <= MAX_UNPACKED
