"""Linux packed by the very commands of its makefiles gives its vmlinux, in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import InputError
from bootbuild.formats.bzimage import unpack
from bootbuild.formats.payload import open_payload
from bootbuild.model.content import MemoryContent
from peak_memory import peak
from tiny_bzimage import COMMANDS, Command, bzimage
from tiny_elf import make

#: Calls of one function from everywhere, which the x86 filter of xz rewrites.
CALLS = b"".join(
    b"\x90\x90\x90\xe8" + (0x200000 - at).to_bytes(4, "little", signed=True) for at in range(0, 1 << 18, 8)
)
#: An ELF file with more behind it, as are the relocations of a Linux with CONFIG_RANDOMIZE_BASE: two blocks
#: of lz4, many of lzop, some of them stored.
MORE = CALLS + random.Random(1).randbytes(1 << 19) + bytes(8 << 20) + CALLS


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", COMMANDS)
def test_each_compression_of_linux_gives_its_vmlinux(
    linux_packs: Callable[[str], Command], name: str, bits: int, tmp_path: Path
) -> None:
    command = linux_packs(name)
    vmlinux = bytes(make(bits)) + MORE
    path = tmp_path / "vmlinuz"
    path.write_bytes(command.image(vmlinux))
    opened = open_payload(path)
    assert opened.format == f"bzimage ({command.name})"
    assert opened.elf.bits == bits
    assert opened.elf.symbols["startup_64"] == make(bits).phdrs[0]["p_vaddr"]
    assert opened.elf.content.size == len(vmlinux)
    assert opened.elf.content.read(0, len(vmlinux)) == vmlinux


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "lzo", "zstd"])  # the others have no checksum
def test_a_wrong_bit_is_found_by_the_checksum(linux_packs: Callable[[str], Command], name: str) -> None:
    vmlinux = bytes(make(64)) + random.Random(1).randbytes(1 << 16)
    command = linux_packs(name)
    packed = bytearray(command.pack(vmlinux))
    packed[len(packed) // 2] ^= 1
    image = bzimage(bytes(packed), len(vmlinux) if command.appended else None)
    with pytest.raises(InputError, match=f"{command.name}: .*BB-E023"):
        unpack(MemoryContent(image), "vmlinuz")


BEFORE = """
from bootbuild.formats import bzimage, lzop
from bootbuild.model.content import FileContent
import bz2, lzallright, lz4.block, lzma, zlib, zstandard
"""


def measured(path: Path) -> tuple[int, int, int]:
    """Bytes packed and unpacked, and how much more memory the process took meanwhile."""
    code = f"unpacked, _ = bzimage.unpack(FileContent(Path({str(path)!r})), 'vmlinuz'); print(unpacked.size)"
    grown, unpacked = peak(BEFORE, code)
    return path.stat().st_size, int(unpacked), grown


#: What a decompressor keeps beside its input and output: the window or dictionary of what Linux packs with
#: is at most 128 MiB, and no larger than the kernel. The rest is slack of an allocator.
KEPT = 128 << 20
SLACK = 24 << 20


@pytest.mark.parametrize("name", COMMANDS)
def test_memory_is_that_of_the_kernel_and_a_window(
    linux_packs: Callable[[str], Command], name: str, tmp_path: Path
) -> None:
    vmlinux = bytes(make(64)) + bytes(64 << 20) + MORE
    path = tmp_path / "vmlinuz"
    path.write_bytes(linux_packs(name).image(vmlinux))
    packed, unpacked, grown = measured(path)
    assert unpacked == len(vmlinux)
    assert grown < packed + unpacked + min(KEPT, unpacked) + SLACK
    if name in ("gzip", "bzip2", "lzo", "lz4"):  # blocks, or a window of kilobytes
        assert grown < packed + unpacked + SLACK


@pytest.mark.parametrize("which", ["cloud", "generic", "newer"])
def test_memory_for_debians_kernels(kernels: Any, which: str) -> None:
    packed, unpacked, grown = measured(getattr(kernels, which).vmlinuz)
    assert grown < packed + 2 * unpacked + SLACK
