"""A boot as data: the memory, CPU state and gifts that an environment sets up before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from bootbuild.model.content import Content
from bootbuild.model.span import Span


class RegionKind(Enum):
    """What answers at a physical address."""

    RAM = "ram"
    ROM = "rom"  #: reads as data, a write is recorded and dropped by hardware
    RESERVED = "reserved"  #: exists and can be read; a write is not the guest's to make
    FREE = "free"  #: RAM that is nobody's yet: a write is not the guest's to make before it was given some
    MMIO = "mmio"  #: the platform answers


@dataclass(frozen=True)
class Region:
    """A physical range (4 KiB granules). What no region covers does not exist: access to it is a finding."""

    span: Span
    kind: RegionKind


@dataclass(frozen=True)
class Load:
    """`size` bytes of `content` from `offset` are put at physical `address`, then zeros up to `memsz`."""

    address: int
    content: Content = field(repr=False)
    offset: int
    size: int
    memsz: int


class Filling(Enum):
    """What stands where the ABI promises nothing: the profile's exact state, or one of two garbages."""

    EXACT = "exact"
    POISON_A = "poison-a"
    POISON_B = "poison-b"


Mode = Literal["real16", "protected32", "long64", "long64-user"]


@dataclass(frozen=True)
class Descriptor:
    """A segment register with its hidden part.

    `attributes` as in a VMCS: bits 0–7 the access byte, 12–15 AVL, L, D, G.
    """

    selector: int
    base: int = 0
    limit: int = 0xFFFFFFFF  #: in bytes
    attributes: int = 0xC093


CODE32 = Descriptor(0, attributes=0xC09B)
DATA32 = Descriptor(0, attributes=0xC093)
TSS32 = Descriptor(0, limit=0x67, attributes=0x008B)
UNUSABLE = Descriptor(0, limit=0, attributes=0)


@dataclass(frozen=True)
class TableRegister:
    """GDTR or IDTR: linear base, limit in bytes less one."""

    base: int
    limit: int


@dataclass(frozen=True)
class EntryState:
    """The CPU at the first instruction. Registers not named are 0; `rflags` is one of them (bit 1 set)."""

    mode: Mode
    ip: int  #: offset in CS
    registers: Mapping[str, int] = field(default_factory=dict)  #: "rax" … "r15", "rflags"
    cr0: int = 0x11
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    fcw: int = 0x40  #: x87 control word; this and MXCSR as after a reset (SDM volume 3, table 10-1)
    mxcsr: int = 0x1F80
    cs: Descriptor = CODE32
    ds: Descriptor = DATA32
    es: Descriptor = DATA32
    ss: Descriptor = DATA32
    fs: Descriptor = UNUSABLE
    gs: Descriptor = UNUSABLE
    tr: Descriptor = TSS32
    ldtr: Descriptor = UNUSABLE
    gdtr: TableRegister = TableRegister(0, 0)
    idtr: TableRegister = TableRegister(0, 0)

    @property
    def entry(self) -> int:
        """Linear address of the first instruction."""
        return self.ip if self.mode in ("long64", "long64-user") else self.cs.base + self.ip


@dataclass(frozen=True)
class MapEntry:
    """One entry of the memory map in its normal form: ACPI address range types (1 RAM, 2 reserved …)."""

    address: int
    size: int
    type: int


@dataclass(frozen=True)
class GivenModule:
    """A module as the environment placed it: physical span, SHA-256 of its bytes, its own command line."""

    span: Span
    digest: str
    cmdline: bytes


@dataclass(frozen=True)
class Framebuffer:
    """A screen of pixels at a physical address."""

    address: int
    width: int  #: pixels, as `height`
    height: int
    pitch: int  #: bytes from one line to the next
    bits_per_pixel: int
    colours: tuple[int, int, int, int, int, int]  #: lowest bit and number of bits of red, green, blue

    @property
    def size(self) -> int:
        """Bytes from the first pixel to the end of the last line."""
        return self.pitch * self.height


@dataclass(frozen=True)
class Given:
    """All that the environment handed over: what a correct guest must find again. Addresses physical."""

    boot_type: int
    hypervisor_type: int
    data: int  #: the environment's own structure
    cmdline: bytes
    modules: tuple[GivenModule, ...]
    memory_map: tuple[MapEntry, ...]
    rsdp: int = 0
    efi_system_table: int = 0
    efi_memmap: Span = Span(0, 0)  #: EFI's own map, of descriptors of this size and version
    efi_memmap_descriptor_size: int = 0  #: bytes
    efi_memmap_descriptor_version: int = 0
    native_map: Span = Span(0, 0)  #: the environment's own map in memory; empty if asked for by call
    structures: tuple[Load, ...] = ()  #: what the environment wrote for the guest, without image and modules
    hypervisor_leaf: int = 0x40000000  #: the hypervisor's first CPUID leaf; 0 without one
    privileged: bool = False  #: the guest is the hypervisor's initial domain
    secure_boot: bool = False  #: UEFI's, as far as the environment tells
    framebuffer: Framebuffer | None = None  #: the screen, if its pixels can be reached
    firmware: EntryState | None = None  #: the CPU as living EFI boot services need it; None where they ended


@dataclass(frozen=True)
class Offer:
    """What the recipe (or the command line) wants handed to the guest."""

    cmdline: bytes = b""
    modules: tuple[tuple[str, Content, bytes], ...] = ()  #: name, bytes, its own command line
    memory: int = 0  #: RAM in bytes; 0: the profile chooses


@dataclass(frozen=True)
class Undefined:
    """One thing that the ABI leaves undefined, which a poisoned run fills with garbage."""

    name: str  #: "ESP", "GDTR", "free memory" …
    rule: str  #: id of the rule that a guest breaks by relying on it
    by: str = ""  #: who leaves it undefined, where it is not the target's ABI
