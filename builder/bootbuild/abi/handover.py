"""The handover record (`handover.h`) as a value: what a kernel finds at its shared startup path."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from bootbuild.model.machine import Framebuffer

MAGIC = 0x4F484242  #: "BBHO"
VERSION = 1
SIZE = 0xA8  #: bytes of a version 1 record
MAX_SIZE = 4096  #: bytes of any record, however new
MAX_CMDLINE = 8192  #: bytes of a command line, with its NUL
MAX_MODULES = 1024
MAX_MEMMAP = 4096

Read = Callable[[int, int], bytes]
"""Bytes at an address the way the guest would dereference it; LookupError where nothing is mapped."""


class BootType(IntEnum):
    """How the kernel was entered."""

    PVH = 1
    XEN_PV = 2
    EFI = 3
    MULTIBOOT1 = 4
    MULTIBOOT2 = 5
    LINUX_16 = 6
    LINUX_32 = 7
    LINUX_64 = 8


class HypervisorType(IntEnum):
    """What is underneath."""

    NONE = 0
    XEN = 1
    KVM = 2
    TCG = 3
    HYPER_V = 4
    VMWARE = 5
    BHYVE = 6
    UNKNOWN = 0xFFFF


class HandoverFlag(IntFlag):
    """Flags of the record."""

    BOOT_SERVICES = 1
    PRIVILEGED = 2
    DATA_COPIED = 4
    SECURE_BOOT = 8


class PostOperation(IntEnum):
    """Operations of the post stub."""

    QUERY = 0
    CONSOLE_WRITE = 1
    SHUTDOWN = 2
    TRAPS = 3
    VIRTUAL_MAP = 4


ENOSYS = -38  #: what a post stub answers to an operation that it does not know


@dataclass(frozen=True)
class MemoryEntry:
    """`struct bb_memory`: a physical range of an ACPI address range type."""

    address: int
    size: int
    type: int


@dataclass(frozen=True)
class ModuleEntry:
    """`struct bb_module`; `cmdline` is the address of its command line, 0 if it has none."""

    address: int
    size: int
    cmdline: int


# Fields of struct bb_handover in their order: (name, struct code). Offsets are natural, without padding.
LAYOUT = (
    ("magic", "I"),
    ("version", "I"),
    ("size", "I"),
    ("checksum", "I"),
    ("boot_type", "I"),
    ("hypervisor_type", "I"),
    ("hypervisor_leaf", "I"),
    ("flags", "I"),
    ("data", "Q"),
    ("cmdline", "Q"),
    ("modules", "Q"),
    ("memmap", "Q"),
    ("module_count", "I"),
    ("memmap_count", "I"),
    ("env_memmap", "Q"),
    ("env_memmap_size", "Q"),
    ("rsdp", "Q"),
    ("efi_system_table", "Q"),
    ("efi_memmap", "Q"),
    ("efi_memmap_size", "Q"),
    ("efi_memmap_descriptor_size", "I"),
    ("efi_memmap_descriptor_version", "I"),
    ("framebuffer", "Q"),
    ("load_offset", "Q"),
    ("stub_base", "Q"),
    ("stub_size", "Q"),
    ("post_stub", "Q"),
)
_RECORD = struct.Struct("<" + "".join(code for _, code in LAYOUT))
_MEMORY = struct.Struct("<QQII")
_MODULE = struct.Struct("<QQQQ")
_FRAMEBUFFER = struct.Struct("<QQ4I6B2x")


@dataclass(frozen=True)
class Handover:
    """A record of version 1, or what a later one has of it. Addresses are the guest's own; 0 = absent."""

    magic: int
    version: int
    size: int
    checksum: int
    boot_type: int
    hypervisor_type: int
    hypervisor_leaf: int
    flags: int
    data: int
    cmdline: int
    modules: int
    memmap: int
    module_count: int
    memmap_count: int
    env_memmap: int
    env_memmap_size: int
    rsdp: int
    efi_system_table: int
    efi_memmap: int
    efi_memmap_size: int
    efi_memmap_descriptor_size: int
    efi_memmap_descriptor_version: int
    framebuffer: int
    load_offset: int
    stub_base: int
    stub_size: int
    post_stub: int

    @classmethod
    def parse(cls, read: Read, address: int) -> Handover:
        """The record at `address`.

        Raises ValueError that begins with the name of the field that is wrong; also when the record
        cannot be read.
        """
        record = cls(*_RECORD.unpack(_get(read, address, SIZE, "record")))
        if record.magic != MAGIC:
            raise ValueError(f"magic: {record.magic:#x} is not {MAGIC:#x}")
        if record.version < VERSION:
            raise ValueError(f"version: {record.version} is not {VERSION} or later")
        if not SIZE <= record.size <= MAX_SIZE or record.size % 4:
            raise ValueError(f"size: {record.size} is not a multiple of 4 from {SIZE} to {MAX_SIZE}")
        total = sum(word for (word,) in struct.iter_unpack("<I", _get(read, address, record.size, "size")))
        if total & 0xFFFFFFFF:
            raise ValueError(f"checksum: the words add up to {total & 0xFFFFFFFF:#x}, not 0")
        return record

    def read_cmdline(self, read: Read) -> bytes | None:
        """The command line without its NUL; None if there is none. Raises ValueError as `parse` does."""
        return read_string(read, self.cmdline, "cmdline")

    def read_modules(self, read: Read) -> tuple[ModuleEntry, ...]:
        """The modules, in the environment's order. Raises ValueError as `parse` does."""
        rows = _table(read, self.modules, self.module_count, MAX_MODULES, _MODULE, "module")
        return tuple(ModuleEntry(at, size, cmdline) for at, size, cmdline, _ in rows)

    def read_memory_map(self, read: Read) -> tuple[MemoryEntry, ...]:
        """The memory map in its normal form. Raises ValueError as `parse` does."""
        rows = _table(read, self.memmap, self.memmap_count, MAX_MEMMAP, _MEMORY, "memmap")
        return tuple(MemoryEntry(at, size, kind) for at, size, kind, _ in rows)

    def read_framebuffer(self, read: Read) -> Framebuffer | None:
        """The screen; None if there is none. Raises ValueError as `parse` does."""
        if not self.framebuffer:
            return None
        data = _get(read, self.framebuffer, _FRAMEBUFFER.size, "framebuffer")
        address, size, width, height, pitch, depth, *colours = _FRAMEBUFFER.unpack(data)
        red, red_size, green, green_size, blue, blue_size = colours
        screen = Framebuffer(
            address, width, height, pitch, depth, (red, red_size, green, green_size, blue, blue_size)
        )
        if size != screen.size:
            raise ValueError(f"framebuffer: {size:#x} bytes, {height} lines of {pitch} are {screen.size:#x}")
        return screen


def pair_of(record: Handover) -> dict[str, str]:
    """The pair with the environment's own data, as reports of guests that get something else say it."""
    return {
        "boot_type": boot_type_name(record.boot_type),
        "hypervisor_type": hypervisor_type_name(record.hypervisor_type),
        "data": hex(record.data),
    }


def read_string(read: Read, address: int, field: str) -> bytes | None:
    """The NUL-terminated string at `address`, without its NUL; None for address 0.

    Read in pieces that cross no page, since the next may not be mapped. Raises ValueError, beginning with
    `field`, when it cannot be read or has no NUL within MAX_CMDLINE bytes.
    """
    if not address:
        return None
    text = bytearray()
    while len(text) < MAX_CMDLINE:
        at = address + len(text)
        size = min(256 - at % 256, MAX_CMDLINE - len(text))
        piece, nul, _ = _get(read, at, size, field).partition(b"\0")
        text += piece
        if nul:
            return bytes(text)
    raise ValueError(f"{field}: no NUL within {MAX_CMDLINE} bytes at {address:#x}")


def boot_type_name(value: int) -> str:
    """A boot type as messages spell it: "pvh", "xen-pv" …; in hex if it is not assigned."""
    return _name(BootType, value)


def hypervisor_type_name(value: int) -> str:
    """A hypervisor type as messages spell it: "none", "xen", "hyper-v" …; in hex if it is not assigned."""
    return _name(HypervisorType, value)


def _name(kind: type[IntEnum], value: int) -> str:
    try:
        return kind(value).name.lower().replace("_", "-")
    except ValueError:
        return f"{value:#x}"


def _get(read: Read, address: int, size: int, field: str) -> bytes:
    try:
        data = read(address, size)
    except LookupError:
        data = b""
    if len(data) != size:
        raise ValueError(f"{field}: {size} bytes at {address:#x} cannot be read")
    return data


def _table(
    read: Read, address: int, count: int, most: int, entry: struct.Struct, field: str
) -> list[tuple[int, ...]]:
    if count > most:
        raise ValueError(f"{field}_count: {count} is more than {most}")
    if bool(count) != bool(address):
        raise ValueError(f"{field}_count: {count} with a table at {address:#x}")
    return list(entry.iter_unpack(_get(read, address, count * entry.size, field))) if count else []
