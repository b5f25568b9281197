"""One call of a firmware's function: its arguments, and memory as the caller sees it."""

from __future__ import annotations

import struct

from bootbuild.api.machine import Cpu

_REGISTERS = ("rcx", "rdx", "r8", "r9")
_LONGEST = 4096  #: characters of a string that are read


class BadPointer(Exception):
    """An argument leads to no memory."""


class Call:
    """Microsoft's x64 convention, UEFI 2.10 §2.3.4.2. The CPU stands behind the call, at the function."""

    def __init__(self, cpu: Cpu, name: str) -> None:
        self.cpu = cpu
        self.name = name

    def __getitem__(self, index: int) -> int:
        """An argument; the first four are in registers, the others above return address and shadow space."""
        if index < len(_REGISTERS):
            return self.cpu.get(_REGISTERS[index])
        return self.read64(self.cpu.get("rsp") + 8 + 8 * index)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the caller's. Raises BadPointer."""
        try:
            return self.cpu.read(address, size)
        except LookupError:
            raise BadPointer(f"{size} bytes at {address:#x} cannot be read") from None

    def read64(self, address: int) -> int:
        """A number of 64 bits. Raises BadPointer."""
        return int.from_bytes(self.read(address, 8), "little")

    def write(self, address: int, data: bytes) -> None:
        """Write where the caller asked for it. Raises BadPointer."""
        try:
            self.cpu.write(address, data)
        except LookupError:
            raise BadPointer(f"{len(data)} bytes at {address:#x} cannot be written") from None

    def write32(self, address: int, value: int) -> None:
        """The same for a number of 32 bits."""
        self.write(address, struct.pack("<I", value))

    def write64(self, address: int, value: int) -> None:
        """The same for one of 64, a UINTN or an address."""
        self.write(address, struct.pack("<Q", value))

    def guid(self, index: int) -> bytes:
        """The GUID to which an argument points."""
        return self.read(self[index], 16)

    def text(self, address: int) -> str:
        """A string of UCS-2 up to its NUL."""
        found = bytearray()
        while len(found) < 2 * _LONGEST:
            part = self.read(address + len(found), 2)
            if part == b"\0\0":
                break
            found += part
        return found.decode("utf-16-le", "replace")
