"""A bzImage of our own, and the ways in which one can be wrong: each a change of its bytes, of any bzImage.

Every change leaves a trailing CRC right that was right, as whoever makes such a file would.
"""

from __future__ import annotations

import struct
import zlib

from broken_file import Broken, Change
from tiny_bzimage import HEADER

SECTOR, SETUP_SECTS = 512, 4
CODE_OFFSET = 0x26C  #: of the real-mode code in the file: behind the setup header
PAYLOAD_OFFSET = 0x400  #: of the payload in the protected-mode code
KERNEL_SIZE = 0x2000  #: bytes of protected-mode code, CRC and payload included
PE_OFFSET = 0x40
HALT = b"\xf4\xeb\xfd"  #: hlt, and again


def get(data: bytes, name: str) -> int:
    """A field of the setup header."""
    offset, letter, _ = HEADER[name]
    return int(struct.unpack_from(f"<{letter}", data, offset)[0])


def tiny_linux(payload: bytes, setup: bytes = HALT, kernel: bytes = HALT * 0x100) -> bytes:
    """A bzImage of protocol 2.15 with this real-mode code and this protected-mode code, payload and CRC.

    `kernel` has the 32-bit entry at 0 and the 64-bit entry at 0x200.
    """
    data = bytearray((SETUP_SECTS + 1) * SECTOR + KERNEL_SIZE - 4)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, PE_OFFSET)
    struct.pack_into("<4sHH", data, PE_OFFSET, b"PE\0\0", 0x8664, 0)
    data[0x202:0x206] = b"HdrS"
    own = {
        "setup_sects": SETUP_SECTS,
        "syssize": KERNEL_SIZE // 16,
        "payload_offset": PAYLOAD_OFFSET,
        "payload_length": len(payload),
    }
    for name, (offset, letter, value) in HEADER.items():
        struct.pack_into(f"<{letter}", data, offset, own.get(name, value))
    start = (SETUP_SECTS + 1) * SECTOR
    for at, part in ((CODE_OFFSET, setup), (start, kernel), (start + PAYLOAD_OFFSET, payload)):
        data[at : at + len(part)] = part
    assert len(data) == (SETUP_SECTS + 1) * SECTOR + KERNEL_SIZE - 4
    return sealed(bytes(data))


def sealed(data: bytes) -> bytes:
    """With a CRC behind it, as arch/x86/boot/tools/build.c put one."""
    return data + struct.pack("<I", zlib.crc32(data) ^ 0xFFFFFFFF)


def without_efi_stub(image: bytes) -> bytes:
    """A real bzImage as it is without CONFIG_EFI_STUB: no PE header, nothing about EFI in the setup header.

    The certificates behind it, which that header names, are left out.
    """
    raw = bytearray(image)
    (sectors,) = struct.unpack_from("<B", raw, 0x1F1)
    (paragraphs,) = struct.unpack_from("<I", raw, 0x1F4)
    raw[:0x1F1] = bytes(0x1F1)
    raw[0x236] &= 0xE3  # xloadflags: XLF_EFI_HANDOVER_32, _64, XLF_EFI_KEXEC
    raw[0x264:0x268] = bytes(4)  # handover_offset
    return sealed(bytes(raw[: (sectors + 1) * SECTOR + paragraphs * 16 - 4]))


def has_crc(data: bytes) -> bool:
    """Whether its last four bytes are the CRC of the others."""
    return zlib.crc32(data) == 0xFFFFFFFF


def changed(data: bytes, **fields: int) -> bytes:
    """With fields of the setup header as given; numbers without sign."""
    raw = bytearray(data)
    for name, value in fields.items():
        offset, letter, _ = HEADER[name]
        struct.pack_into(f"<{letter}", raw, offset, value)
    return sealed(bytes(raw[:-4])) if has_crc(data) else bytes(raw)


def fields(**values: int) -> Change:
    """`changed`, for a table."""
    return lambda data: changed(data, **values)


def poked(offset: int, value: bytes) -> Change:
    """Other bytes at an offset of the file."""

    def change(data: bytes) -> bytes:
        raw = data[:offset] + value + data[offset + len(value) :]
        return sealed(raw[:-4]) if has_crc(data) else raw

    return change


def cut(size: int) -> Change:
    """The first `size` bytes; from the end if negative."""
    return lambda data: data[:size]


def _setup_sects(more: int) -> Change:
    """The real-mode code said to be longer than it is, or shorter."""
    return lambda data: changed(data, setup_sects=(get(data, "setup_sects") or SETUP_SECTS) + more)


def _payload(offset: int = 0, length: int = 0) -> Change:
    """payload_offset and payload_length moved."""

    def change(data: bytes) -> bytes:
        at, size = get(data, "payload_offset") + offset, get(data, "payload_length") + length
        return changed(data, payload_offset=at, payload_length=size)

    return change


def _damaged(data: bytes) -> bytes:
    """One bit of the middle of the payload the other way."""
    start = ((get(data, "setup_sects") or SETUP_SECTS) + 1) * SECTOR + get(data, "payload_offset")
    at = start + get(data, "payload_length") // 2
    return poked(at, bytes([data[at] ^ 0x10]))(data)


def _wrong_crc(data: bytes) -> bytes:
    return data[:-4] + bytes(byte ^ 0xFF for byte in data[-4:])


def _xloadflags(clear: int) -> Change:
    return lambda data: changed(data, xloadflags=get(data, "xloadflags") & ~clear)


def _larger(size: int) -> Change:
    """More protected-mode code, zeros behind it."""
    return lambda data: sealed(data[:-4] + bytes(size))


KERNEL_64, ABOVE_4G = 1, 2  #: bits of xloadflags
LIEF_ZEROS = 0x1F1, 0x268  #: what LIEF's writer leaves of the setup header: nothing
MiB = 1 << 20


BROKEN = (
    Broken("as it is", bytes),
    Broken("setup_sects 0, which is 4", fields(setup_sects=0)),
    Broken("setup_sects one too large", _setup_sects(1)),
    Broken("setup_sects one too small", _setup_sects(-1)),
    Broken("setup_sects 64", fields(setup_sects=64)),
    Broken("setup_sects 65", fields(setup_sects=65)),
    Broken("setup_sects 255", fields(setup_sects=255)),
    Broken("setup_sects for all of the file", lambda d: changed(d, setup_sects=len(d) // SECTOR - 1)),
    Broken("no 0xAA55", fields(boot_flag=0)),
    Broken("no HdrS", poked(0x202, b"\0\0\0\0")),
    Broken("hdrs", poked(0x202, b"hdrs")),
    Broken("protocol 1.ff", fields(version=0x1FF)),
    Broken("protocol 2.00", fields(version=0x200)),
    Broken("protocol 2.01", fields(version=0x201)),
    Broken("protocol 2.02", fields(version=0x202)),
    Broken("protocol 2.03", fields(version=0x203)),
    Broken("protocol 2.04", fields(version=0x204)),
    Broken("protocol 2.05", fields(version=0x205)),
    Broken("protocol 2.07", fields(version=0x207)),
    Broken("protocol 2.08", fields(version=0x208)),
    Broken("protocol 2.09", fields(version=0x209)),
    Broken("protocol 2.11", fields(version=0x20B)),
    Broken("protocol 3.00", fields(version=0x300)),
    Broken("loadflags 0", fields(loadflags=0)),
    Broken("loadflags 0, a kernel of 1 MiB", lambda d: changed(_larger(MiB)(d), loadflags=0)),
    Broken("loadflags 0, code32_start 0x1000", fields(loadflags=0, code32_start=0x1000)),
    Broken("code32_start 0", fields(code32_start=0)),
    Broken("code32_start 2 MiB", fields(code32_start=2 * MiB)),
    Broken("code32_start 16 bytes further", fields(code32_start=MiB + 16)),
    Broken("code32_start in no RAM", fields(code32_start=0xF0000000)),
    Broken("init_size 0", fields(init_size=0)),
    Broken("init_size a page too small", fields(init_size=KERNEL_SIZE - 0x1000)),
    Broken("init_size of a kernel of 1 MiB too small", lambda d: changed(_larger(MiB)(d), init_size=0x1000)),
    Broken("init_size 100 MiB", fields(init_size=100 * MiB)),
    Broken("init_size 2 GiB", fields(init_size=1 << 31)),
    Broken("pref_address 1 MiB", fields(pref_address=MiB)),
    Broken("pref_address in no RAM", fields(pref_address=1 << 30)),
    Broken("pref_address above 4 GiB", fields(pref_address=1 << 32)),
    Broken("pref_address in no RAM, min_alignment 25", fields(pref_address=1 << 30, min_alignment=25)),
    Broken("relocatable_kernel 0", fields(relocatable_kernel=0)),
    Broken("kernel_alignment odd", fields(kernel_alignment=0x200001)),
    Broken("kernel_alignment 0", fields(kernel_alignment=0)),
    Broken("relocatable_kernel 0, kernel_alignment odd",
           fields(relocatable_kernel=0, kernel_alignment=0x200001)),
    Broken("xloadflags without the 64-bit entry", _xloadflags(KERNEL_64)),
    Broken("xloadflags without memory above 4 GiB", _xloadflags(ABOVE_4G)),
    Broken("xloadflags 0", fields(xloadflags=0)),
    Broken("cmdline_size 0", fields(cmdline_size=0)),
    Broken("cmdline_size 16", fields(cmdline_size=16)),
    Broken("cmdline_size 1 MiB", fields(cmdline_size=MiB)),
    Broken("cmdline_size 1 GiB", fields(cmdline_size=1 << 30)),
    Broken("initrd_addr_max 1 MiB", fields(initrd_addr_max=MiB)),
    Broken("payload_offset beyond the end", _payload(offset=0x10000)),
    Broken("payload_length past the end", _payload(length=KERNEL_SIZE)),
    Broken("payload_length a byte short", _payload(length=-1)),
    Broken("a damaged payload", _damaged),
    Broken("a wrong CRC", _wrong_crc),
    Broken("syssize 0", fields(syssize=0)),
    Broken("a header that ends before it begins", fields(jump=0x80EB)),
    Broken("a header that ends as it begins", fields(jump=0xEFEB)),
    Broken("a header of 639 bytes", fields(jump=0x7FEB)),
    Broken("handover_offset beyond the end", fields(handover_offset=0x10000000)),
    Broken("no MZ", poked(0, b"\0\0")),
    Broken("no PE header", poked(PE_OFFSET, bytes(24))),
    Broken("as LIEF writes it", poked(LIEF_ZEROS[0], bytes(LIEF_ZEROS[1] - LIEF_ZEROS[0]))),
    Broken("without its last sector", cut(-SECTOR)),
    Broken("the setup code alone", cut((SETUP_SECTS + 1) * SECTOR)),
    Broken("a byte less than the setup code", cut((SETUP_SECTS + 1) * SECTOR - 1)),
    Broken("1024 bytes", cut(1024)),
    Broken("cut in the setup header", cut(0x240)),
    Broken("cut before the setup header", cut(0x1F0)),
)  # fmt: skip
