"""The preloaded metadata as the kernel reads them: sys/kern/subr_module.c, not the stub that wrote them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from bootbuild.abi.handover import Read

KERNBASE = 0xFFFFFFFF80000000  #: sys/amd64/include/vmparam.h
NAME, TYPE, ADDR, SIZE, ARGS = 1, 2, 3, 4, 6  #: MODINFO_*, sys/sys/linker.h
METADATA = 0x8000  #: MODINFO_METADATA; the MODINFOMD_* of linker.h and sys/x86/include/metadata.h follow
ELFHDR, SSYM, ESYM, ENVP, HOWTO, KERNEND, FW_HANDLE = (METADATA | md for md in (2, 3, 4, 6, 7, 8, 12))
SMAP, EFI_MAP, EFI_FB, MODULEP = (METADATA | md for md in (0x1001, 0x1004, 0x1005, 0x1006))

MOST = 1 << 20  #: bytes of metadata, or of the environment, that are read


@dataclass(frozen=True)
class File:
    """One preloaded file: its records by their type."""

    records: Mapping[int, bytes]

    def text(self, kind: int) -> str:
        """A string without its NUL; empty if it is not there."""
        return self.records.get(kind, b"").split(b"\0")[0].decode("utf-8", "replace")

    def number(self, kind: int) -> int | None:
        """A little endian number of as many bytes as there are; None if it is not there."""
        data = self.records.get(kind)
        return None if data is None else int.from_bytes(data, "little")


@dataclass(frozen=True)
class Preloaded:
    """The whole list, and where it ends (offset from KERNBASE)."""

    files: tuple[File, ...]
    end: int


def read_preloaded(read: Read, modulep: int) -> Preloaded:
    """The list at KERNBASE + `modulep`. Raises ValueError with what is wrong with it."""
    files: list[dict[int, bytes]] = []
    at = modulep
    while at < modulep + MOST:
        kind, size = struct.unpack("<II", _get(read, at, 8))
        if not kind and not size:
            return Preloaded(tuple(File(records) for records in files), at + 8)
        if kind == NAME:
            files.append({})
        elif not files:
            raise ValueError(f"the first record, at {at:#x}, is of type {kind:#x}, not MODINFO_NAME")
        if size > MOST:
            raise ValueError(f"the record of type {kind:#x} at {at:#x} has {size:#x} bytes")
        if kind in files[-1]:
            raise ValueError(f"file {len(files) - 1} has two records of type {kind:#x}")
        files[-1][kind] = _get(read, at + 8, size)
        at += (8 + size + 7) & ~7
    raise ValueError(f"there is no end within {MOST:#x} bytes of {modulep:#x}")


def read_environment(read: Read, envp: int) -> tuple[tuple[bytes, ...], int]:
    """Variables at KERNBASE + `envp` up to the empty one, and the end. Raises ValueError without an end."""
    variables = []
    text = bytearray()
    for at in range(envp, envp + MOST):
        byte = _get(read, at, 1)
        if byte != b"\0":
            text += byte
        elif text:
            variables.append(bytes(text))
            text.clear()
        else:
            return tuple(variables), at + 1
    raise ValueError(f"there is no end within {MOST:#x} bytes of {envp:#x}")


def _get(read: Read, at: int, size: int) -> bytes:
    """`size` bytes at KERNBASE + `at`."""
    try:
        return read(KERNBASE + at, size) if size else b""
    except LookupError:
        raise ValueError(f"{size} bytes at {KERNBASE + at:#x} cannot be read") from None
