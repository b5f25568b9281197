"""Linux packed with LZO is unpacked as lzop itself would; every damage that lzop refuses is refused."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode, InputError
from bootbuild.formats import bzimage as reader
from bootbuild.formats import lzop
from bootbuild.formats.lzop import ADLER32_C, ADLER32_D, BLOCK, CRC32_C, CRC32_D, HEADER_CRC32
from bootbuild.model.content import MemoryContent
from peak_memory import peak
from tiny_bzimage import bzimage
from tiny_lzop import END, block, file, header

TEXT = b"".join(b"%d bottles of beer on the wall, " % i for i in range(40_000))  # of several blocks
SMALL = TEXT[:700]
RANDOM = random.Random(1).randbytes(1000)
ALL_SUMS = ADLER32_D | ADLER32_C | CRC32_D | CRC32_C | HEADER_CRC32


def unpack(data: bytes) -> bytes:
    out = bytearray()
    lzop.unpack(memoryview(data), out.extend)
    return bytes(out)


@pytest.fixture(scope="session")
def tests_file(lzop_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], bool]:
    """Whether `lzop --test` finds a file sound."""
    path = tmp_path_factory.mktemp("lzop") / "vmlinux.bin.lzo"

    def test(data: bytes) -> bool:
        path.write_bytes(data)
        return not subprocess.run([lzop_program, "--test", path], capture_output=True, check=False).returncode

    return test


OPTIONS = ["-1", "-3", "-7", "-9", "--no-checksum", "--crc32", "--name", "--no-name"]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("plain", [TEXT, RANDOM, SMALL * 2 + RANDOM, b"", b"a"], ids=len)
def test_what_lzop_packs_is_unpacked(lzop_program: Path, options: str, plain: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux.bin"
    path.write_bytes(plain)
    done = subprocess.run([lzop_program, options, "-c", path], stdout=subprocess.PIPE, check=True)
    assert unpack(done.stdout) == plain


SOUND = {
    "several blocks": lambda: file(TEXT),
    "every checksum": lambda: file(TEXT + RANDOM, ALL_SUMS),
    "no checksum": lambda: file(TEXT, 0),
    "a block that is stored": lambda: file(RANDOM, ALL_SUMS),
    "a name": lambda: file(SMALL, name=b"n" * 255),
    "blocks of one byte": lambda: header() + block(b"a") * 9 + END,
}


@pytest.mark.parametrize("make", SOUND.values(), ids=SOUND)
def test_what_these_tests_write_is_sound_to_lzop(
    make: Callable[[], bytes], tests_file: Callable[[bytes], bool]
) -> None:
    assert tests_file(make())
    assert unpack(make())


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


HEAD = len(header())
BOMB = 46 << 20  #: bytes; what one block can be made to unpack to, about
DAMAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "other magic": (lambda: flipped(file(SMALL), 8), "no file of lzop's"),
    "header's checksum": (lambda: flipped(file(SMALL), HEAD - 1), "the header's checksum is wrong"),
    "header's CRC": (lambda: flipped(file(SMALL, ALL_SUMS), HEAD - 1), "the header's checksum is wrong"),
    "unknown method": (lambda: file(SMALL, method=4), "method 4"),
    "plain Adler-32": (lambda: flipped(file(SMALL), HEAD + 11), "the data's adler32 is wrong"),
    "plain CRC-32": (lambda: flipped(file(SMALL, CRC32_D), HEAD + 11), "the data's crc32 is wrong"),
    "packed Adler-32": (
        lambda: flipped(file(SMALL, ADLER32_C), HEAD + 11),
        "the compressed data's adler32 is wrong",
    ),
    "packed CRC-32": (
        lambda: flipped(file(SMALL, CRC32_C), HEAD + 11),
        "the compressed data's crc32 is wrong",
    ),
    "stored data": (lambda: flipped(file(RANDOM), HEAD + 500), "the data's adler32 is wrong"),
    "packed data": (
        lambda: header() + block(SMALL, packed=b"\xff" * 50) + END,
        "not what LZO makes (InputOverrun)",
    ),
    "packed data with more behind": (
        lambda: header(0) + block(SMALL, 0, packed=block(SMALL, 0)[8:] + b"more") + END,
        "not what LZO makes (InputNotConsumed)",
    ),
    "a block of more than is packed": (
        lambda: header(0) + block(SMALL, 0, size=701) + END,
        "unpacks to 700 bytes and states 701",
    ),
    "a block of less than is packed": (
        lambda: header(0) + block(SMALL, 0, size=699) + END,
        "unpacks to 700 bytes and states 699",
    ),
    "a block larger packed than not": (
        lambda: header(0) + block(RANDOM, 0, size=999) + END,
        "1000 bytes for 999",
    ),
    "a block of no packed bytes": (
        lambda: header(0) + struct.pack(">II", 700, 0) + END,
        "0 bytes for 700",
    ),
    "a block over the end": (lambda: header(0) + block(SMALL, 0, length=699), "early"),
    "a block of more than 256 KiB": (
        lambda: header() + block(TEXT[: BLOCK + 1]) + END,
        "of which a block has at most 262144",
    ),
    "no end mark": (lambda: file(SMALL)[:-4], "it ends 4 bytes early"),
}
#: Sound to lzop, but nothing that Linux packs itself with, or that decompress_unlzo.c reads.
NOT_OF_LINUX: dict[str, tuple[Callable[[], bytes], str]] = {
    "lzop before 0.94": (lambda: file(SMALL, version=0x0930), "made by lzop 0x0930"),
    "a filter": (lambda: file(SMALL, lzop.FILTER), "flags 0x800"),
    "an extra field": (lambda: file(SMALL, lzop.EXTRA_FIELD), "flags 0x40"),
    "one part of several": (lambda: file(SMALL, lzop.MULTIPART), "flags 0x400"),
}


@pytest.mark.parametrize(
    ("make", "text"),
    [pytest.param(*v, id=n) for n, v in {**DAMAGE, **NOT_OF_LINUX}.items()],
)
def test_damage_is_refused_in_words(make: Callable[[], bytes], text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        unpack(make())
    assert text in str(caught.value)


@pytest.mark.parametrize("make", [make for make, _ in DAMAGE.values()], ids=DAMAGE)
def test_lzop_refuses_the_same(make: Callable[[], bytes], tests_file: Callable[[bytes], bool]) -> None:
    assert not tests_file(make())


@pytest.mark.parametrize("flags", [ADLER32_D, ALL_SUMS, 0])
def test_every_truncation_is_refused(flags: int) -> None:
    whole = file(SMALL, flags)
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="early"):
            unpack(whole[:end])


def test_a_bit_that_is_wrong_gives_no_other_kernel() -> None:
    plain = SMALL + RANDOM[:200]
    whole = header() + block(SMALL) + block(RANDOM[:200]) + END
    rules, same = set(), []
    for at in range(len(whole)):
        try:
            content, _ = reader.unpack(MemoryContent(bzimage(flipped(whole, at), len(plain))), "vmlinuz")
        except InputError as error:
            rules.add(error.problems[0].rule.id)
        else:
            assert content.read(0, content.size) == plain, at
            same.append(at)
    assert rules == {"BB-E022", "BB-E023"}  # the former in the first bytes of the magic
    assert len(same) <= 1  # LZO has two ways of writing its end mark


BEFORE = """
import sys
from bootbuild.formats import lzop
from lzallright import LZOCompressor
data = memoryview(sys.stdin.buffer.read())
"""
UNPACK = """
try:
    lzop.unpack(data, lambda block: None)
except ValueError as error:
    print(error)
"""


def test_a_block_that_is_a_bomb_takes_some_100_mib_at_most() -> None:
    from lzallright import LZOCompressor

    packed = LZOCompressor().compress(bytes(BOMB))
    assert BLOCK * 0.9 < len(packed) < BLOCK  # as large as a block can be, or nearly
    bomb = header(0) + block(bytes(BLOCK), 0, packed=packed) + END
    grown, said = peak(BEFORE, UNPACK, bomb)
    assert f"unpacks to {BOMB} bytes and states {BLOCK}" in said
    assert BOMB < grown < 160 << 20


KERNEL = """
import sys
import lzallright
from bootbuild.formats import bzimage, lzop
from bootbuild.model.content import MemoryContent
data = MemoryContent(sys.stdin.buffer.read())
"""


def test_small_blocks_are_put_together() -> None:
    """A file may have millions of them."""
    data = bzimage(header(0) + (block(b"a", 0) + block(b"bc", 0)) * 30_000 + END, 90_000)
    code = "print(bzimage.unpack(data, '')[0].read(0, 90_000) == b'abc' * 30_000)"
    grown, said = peak(KERNEL, code, data)
    assert said == "True"
    assert grown < 4 << 20


def test_blocks_that_go_on_stop_at_the_stated_size() -> None:
    data = header(0) + block(bytes(BLOCK), 0) * 3000 + END
    with pytest.raises(InputError, match="unpacks to more than the 4096 bytes"):
        reader.unpack(MemoryContent(bzimage(data, 4096)), "vmlinuz")


WITHOUT = """
import sys
sys.modules["lzallright"] = None
from bootbuild.cli import main
sys.exit(main())
"""


def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(bzimage(file(SMALL), len(SMALL)))
    command = [sys.executable, "-c", WITHOUT, "inspect", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.INPUT
    assert "lzo: the Python package lzallright is required to undo it (BB-E022)" in done.stderr
    assert "pip install 'bootbuild[lzo]'" in done.stderr
