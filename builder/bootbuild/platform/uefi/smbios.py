"""SMBIOS as QEMU 7.2 writes it for machine q35, and OVMF hands it on. DMTF DSP0134 3.6, §5.2.1, §6, §7."""

from __future__ import annotations

import struct

_ENTRY_SIZE = 0x1F  #: bytes of an entry point
_MAJOR, _MINOR = 2, 8
_MACHINE = "pc-q35-7.2"


def structures(memory: int) -> tuple[bytes, ...]:
    """Those of a machine with so many bytes of RAM, at most 2 GiB, in their order. Strings count from 1."""
    kib, mib = (struct.pack("<I", memory >> bits) for bits in (10, 20))
    last = struct.pack("<I", (memory >> 10) - 1)
    fromhex = bytes.fromhex
    return (
        # System: its strings, no UUID, woken by the power switch
        _structure(
            1, 0x100, fromhex("01020300") + bytes(16) + fromhex("060000"),
            "QEMU", "Standard PC (Q35 + ICH9, 2009)", _MACHINE,
        ),
        # Chassis: kind other, its states safe
        _structure(3, 0x300, fromhex("0101020000 03030302") + bytes(9), "QEMU", _MACHINE),
        # Processor: CPUID's leaf 1 of `-cpu max`, 2000 MHz, one core
        _structure(
            4, 0x400,
            fromhex("01030102 b10f0600fdfbcb0f 03 000000 d007d007 4101 ffffffffffff 000000 010101 0200 0100"),
            "CPU 0", "QEMU", _MACHINE,
        ),
        # Memory: the array of one device, the device, and its addresses in KiB
        _structure(16, 0x1000, fromhex("010306") + kib + fromhex("feff 0100") + bytes(8)),
        _structure(
            17, 0x1100,
            fromhex("0010 feff ffffffff") + mib[:2] + fromhex("09 00 01 00 07 0200 00 00 02") + bytes(16),
            "DIMM 0", "QEMU",
        ),
        _structure(19, 0x1300, bytes(4) + last + fromhex("0010 01") + bytes(16)),
        _structure(32, 0x2000, bytes(7)),  # the last boot: without an error
        # Firmware: OVMF's own, in a virtual machine
        _structure(
            0, 0, fromhex("0102 00e8 03 00 0800000000000000 001c 0000ffff0000"),
            "EFI Development Kit II / OVMF", "0.0.0", "02/06/2015",
        ),
        _structure(127, 0xFEFF, b""),  # the end
    )  # fmt: skip


def _structure(kind: int, handle: int, formatted: bytes, *strings: str) -> bytes:
    """One structure: its header, what has a fixed form, its strings, and an empty one (§6.1)."""
    text = b"".join(string.encode() + b"\0" for string in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(formatted), handle) + formatted + text + b"\0"


def entry_point(table: int, found: tuple[bytes, ...]) -> bytes:
    """The 32-bit entry point of these structures, which lie at `table`."""
    size, largest = sum(map(len, found)), max(map(len, found))
    second = struct.pack("<5sxHIHB", b"_DMI_", size, table, len(found), _MAJOR << 4 | _MINOR)
    first = struct.pack("<4sx3BHB5x", b"_SM_", _ENTRY_SIZE, _MAJOR, _MINOR, largest, 0)
    return _summed(first + _summed(second, 5), 4)


def _summed(data: bytes, at: int) -> bytes:
    """With the byte at `at` such that all add up to 0."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]
