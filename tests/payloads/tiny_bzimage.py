"""A bzImage around any packed kernel, and the commands with which Linux packs one (scripts/Makefile.lib)."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

SETUP = 5 * 512  #: bytes of the real-mode code, boot sector included
#: Field → offset, struct letter, value: those of Debian's 64-bit kernel.
HEADER: dict[str, tuple[int, str, int]] = {
    "setup_sects": (0x1F1, "B", 4),
    "syssize": (0x1F4, "I", 0),
    "boot_flag": (0x1FE, "H", 0xAA55),
    "jump": (0x200, "H", 0x6AEB),
    "version": (0x206, "H", 0x020F),
    "kernel_version": (0x20E, "H", 0),
    "loadflags": (0x211, "B", 1),
    "code32_start": (0x214, "I", 0x100000),
    "initrd_addr_max": (0x22C, "I", 0x7FFFFFFF),
    "kernel_alignment": (0x230, "I", 0x200000),
    "relocatable_kernel": (0x234, "B", 1),
    "min_alignment": (0x235, "B", 21),
    "xloadflags": (0x236, "H", 0x7F),
    "cmdline_size": (0x238, "I", 2047),
    "payload_offset": (0x248, "I", 0x40),
    "payload_length": (0x24C, "I", 0),
    "pref_address": (0x258, "Q", 0x1000000),
    "init_size": (0x260, "I", 0x10000),
    "handover_offset": (0x264, "I", 0x190),
}


def bzimage(packed: bytes, size: int | None, **fields: int) -> bytes:
    """A bzImage of `packed`, with `size` behind it unless None, and `fields` of the setup header as given."""
    payload = packed if size is None else packed + struct.pack("<I", size)
    head = bytearray(SETUP + HEADER["payload_offset"][2])
    head[0x202:0x206] = b"HdrS"
    given = {"payload_length": len(payload)} | fields
    for name, (offset, letter, value) in HEADER.items():
        struct.pack_into(f"<{letter}", head, offset, given.pop(name, value))
    assert not given, f"no such field: {given}"
    return bytes(head) + payload + bytes(16)


@dataclass(frozen=True)
class Command:
    """A program that packs its stdin to its stdout."""

    name: str  #: of the compression, as bootbuild calls it
    argv: tuple[str, ...]
    package: str  #: of Debian
    appended: bool = True  #: whether Linux puts the size behind it: size_append

    def pack(self, data: bytes, options: Sequence[str] = ()) -> bytes:
        """What the program makes of it."""
        argv = [*self.argv, *options]
        return subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout

    def image(self, data: bytes, **fields: int) -> bytes:
        """The bzImage that Linux's makefiles would put together."""
        return bzimage(self.pack(data), len(data) if self.appended else None, **fields)


XZ = ("xz", "--check=crc32", "--x86")  # scripts/xz_wrap.sh
#: As scripts/Makefile.lib has had them; by a name that says which.
COMMANDS = {
    "gzip": Command("gzip", ("gzip", "-n", "-f", "-9"), "gzip", appended=False),
    "bzip2": Command("bzip2", ("bzip2", "-9"), "bzip2"),
    "lzma": Command("lzma", ("xz", "--format=lzma", "-9"), "xz-utils"),
    "xz": Command("xz", (*XZ, "--lzma2=,dict=32MiB"), "xz-utils"),
    "xz since 6.12": Command("xz", (*XZ, "--threads=1", "--lzma2=,dict=128MiB"), "xz-utils"),
    "lzo": Command("lzo", ("lzop", "-9"), "lzop"),
    "lz4": Command("lz4", ("lz4", "-l", "-9", "-", "-"), "lz4"),
    "zstd": Command("zstd", ("zstd", "-22", "--ultra"), "zstd"),
}
