"""The least ACPI that a root pointer may point to: an RSDP, and an empty XSDT or RSDT (ACPI 6.4 §5.2.5–8)."""

from __future__ import annotations

import struct

RSDP_SIZE, XSDT_SIZE = 36, 36


def _checked(data: bytes, at: int) -> bytes:
    """`data` with the byte at `at` chosen so that all bytes add up to 0."""
    return data[:at] + bytes([(data[at] - sum(data)) & 0xFF]) + data[at + 1 :]


def rsdp(xsdt: int, *, rsdt: int = 0, oem: bytes = b"BOOTBD") -> bytes:
    """Root System Description Pointer, revision 2, to tables at physical addresses; without an RSDT: 0."""
    first = _checked(struct.pack("<8sB6sBI", b"RSD PTR ", 0, oem, 2, rsdt), 8)
    return _checked(first + struct.pack("<IQB3x", RSDP_SIZE, xsdt, 0), 32)


def old_rsdp(rsdt: int, oem: bytes = b"BOOTBD") -> bytes:
    """The same of revision 0, which ACPI 1.0 had, to an RSDT."""
    return _checked(struct.pack("<8sB6sBI", b"RSD PTR ", 0, oem, 0, rsdt), 8)


def _table(signature: bytes) -> bytes:
    return _checked(
        struct.pack("<4sIBB6s8sI4sI", signature, XSDT_SIZE, 1, 0, b"BOOTBD", b"BOOTBILD", 1, b"BBLD", 1), 9
    )


def xsdt() -> bytes:
    """Extended System Description Table with no entry."""
    return _table(b"XSDT")


def rsdt() -> bytes:
    """Root System Description Table with no entry."""
    return _table(b"RSDT")
