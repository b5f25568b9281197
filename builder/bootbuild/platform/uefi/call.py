"""One call of a firmware's function: its arguments, and memory as the caller sees it."""

from __future__ import annotations

import struct

from bootbuild.api.machine import Cpu
from bootbuild.model.span import Span
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.ovmf import PAGE
from bootbuild.platform.uefi.pages import Refused

_REGISTERS = ("rcx", "rdx", "r8", "r9")
_LONGEST = 4096  #: characters of a string that are read


class BadPointer(Exception):
    """An argument leads to no memory, or to memory that is not the caller's."""


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
        self.check(address, len(data))
        self.cpu.write(address, data)

    def check(self, address: int, size: int) -> None:
        """Whether the caller may have so much written there. Raises BadPointer."""
        for page in range(address & -PAGE, address + size, PAGE):
            physical = self.cpu.translate(page)
            if physical is None or not self.cpu.writable(Span(physical, PAGE)):
                at = max(page, address)
                raise BadPointer(f"{size} bytes at {address:#x} cannot be written: {at:#x} was not allocated")

    def write32(self, address: int, value: int) -> None:
        """The same for a number of 32 bits."""
        self.write(address, struct.pack("<I", value))

    def write64(self, address: int, value: int) -> None:
        """The same for one of 64, a UINTN or an address."""
        self.write(address, struct.pack("<Q", value))

    def guid(self, index: int) -> bytes:
        """The GUID to which an argument points. Raises Refused without one."""
        if not self[index]:
            raise Refused(status.INVALID_PARAMETER)
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
