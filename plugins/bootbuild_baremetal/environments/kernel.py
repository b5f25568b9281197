"""A kernel as a Multiboot loader reads it: the header in the file, what is loaded, and where it is entered.

A reader of its own, on the side that boots: what writes headers is not what reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bootbuild.api import Content, ElfImage, InputError, Load, Problem, Rule, Span

# Multiboot 0.6.96 §3.1
MAGIC_1, SEARCH_1, HAS_ADDRESSES = 0x1BADB002, 8192, 1 << 16
# Multiboot2 2.0 §3.1; the types of its tags
MAGIC_2, SEARCH_2 = 0xE85250D6, 32768
ADDRESS, ENTRY, EFI_BOOT_SERVICES, EFI64_ENTRY, RELOCATABLE = 2, 3, 7, 9, 10
PF_X = 1
_M32 = (1 << 32) - 1
PT_LOAD = 1

NO_HEADER = Rule(
    "BB-L330",
    "no Multiboot header that the loader finds",
    "Multiboot 1: three words that add up to 0 at a multiple of 4 in the first 8192 bytes of the file. "
    "Multiboot2: four words that add up to 0, and tags up to the one of type 0, at a multiple of 8 in the "
    "first 32768. GRUB says `no multiboot header found.`, and QEMU goes on to other boot protocols.",
    'insert an entry with `entry = "insert"`, or link the header into the file\'s first bytes',
)
NO_ENTRY = Rule(
    "BB-L331",
    "the Multiboot entry is in no segment",
    "Without an entry address in the header, GRUB enters the kernel at e_entry, in the first segment of any "
    "type that holds that virtual address. It says `entry point isn't in a segment`.",
    "link the kernel with its entry inside a PT_LOAD segment",
)

ADDRESSES = Rule(
    "BB-L332",
    "the Multiboot header's addresses are not of this file",
    "The addresses in a Multiboot header say which bytes of the file go where: from the one that lies at "
    "load_addr, found by the header's own place at header_addr, up to load_end_addr; zeros follow up to "
    "bss_end_addr. They must lie in the file and in this order.",
    "correct them, or leave them out and let the loader read the ELF headers",
)


HIGH = 2  #: MULTIBOOT_LOAD_PREFERENCE_HIGH; 0 is none, 1 low


@dataclass(frozen=True)
class Relocatable:
    """Where a Multiboot2 kernel may lie: the bounds of all its bytes, a power of two, and what it likes."""

    least: int
    most: int
    align: int
    preference: int


@dataclass(frozen=True)
class Part:
    """Bytes of the file, from `offset`, at physical `address`, and zeros behind them up to `memsz`."""

    address: int
    offset: int
    size: int
    memsz: int

    @property
    def span(self) -> Span:
        """The memory that it takes."""
        return Span(self.address, self.memsz)


@dataclass(frozen=True)
class Sections:
    """The section headers of an ELF file, as bytes; those that have to be given memory, by their number."""

    number: int = 0
    entry_size: int = 0
    names: int = 0  #: index of the string table
    headers: bytes = b""
    homeless: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    """Not loaded, and not empty: offset, size, alignment."""

    def placed(self, addresses: Mapping[int, int]) -> bytes:
        """The headers with the addresses of those that got memory."""
        data = bytearray(self.headers)
        at, code = (12, "<I") if self.entry_size == 40 else (16, "<Q")
        for index, address in addresses.items():
            struct.pack_into(code, data, index * self.entry_size + at, address)
        return bytes(data)


@dataclass(frozen=True)
class Kernel:
    """What a loader takes from the file; addresses physical."""

    entry: int
    parts: tuple[Part, ...]
    linked: Span  #: from the lowest byte to the end, with segments of no bytes; as the file has it
    sections: Sections = Sections()
    relocatable: Relocatable | None = None
    keeps_boot_services: bool = False
    efi64_entry: int | None = None
    moved: int = 0  #: bytes by which it lies above where it is linked; negative: below

    @property
    def base(self) -> int:
        """The physical address of its lowest byte."""
        return self.linked.start + self.moved

    def at(self, base: int) -> Kernel:
        """The kernel as a loader has moved it."""
        by = base - self.base
        return replace(
            self,
            entry=self.entry + by & _M32,
            parts=tuple(replace(part, address=part.address + by) for part in self.parts),
            efi64_entry=None if self.efi64_entry is None else self.efi64_entry + by & _M32,
            moved=self.moved + by,
        )

    def loads(self, content: Content) -> list[Load]:
        """Its bytes and zeros in memory."""
        return [Load(p.address, content, p.offset, p.size, p.memsz) for p in self.parts]


def multiboot1(image: ElfImage, elf_entry: Callable[[ElfImage], int]) -> Kernel:
    """The kernel of a Multiboot 1 header; `elf_entry` reads e_entry. Raises InputError without one."""
    data = image.content.read(0, SEARCH_1)
    for at in range(0, len(data) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<3I", data, at)
        if magic != MAGIC_1 or (magic + flags + checksum) & _M32:
            continue
        if not flags & HAS_ADDRESSES:
            return Kernel(elf_entry(image), _segments(image), _linked(image), _sections(image))
        addresses = struct.unpack_from("<5I", data.ljust(at + 32, b"\0"), at + 12)
        part = _by_addresses(image, at, *addresses[:4])
        return Kernel(addresses[4], (part,), part.span)
    raise _no_header(image, 1, SEARCH_1)


def multiboot2(image: ElfImage) -> Kernel:
    """The kernel of a Multiboot2 header. Raises InputError without one."""
    data = image.content.read(0, SEARCH_2)
    for at in range(0, len(data) - 15, 8):
        words = struct.unpack_from("<4I", data, at)
        if words[0] == MAGIC_2 and words[1] == 0 and not sum(words) & _M32:
            return _kernel2(image, at, _tags(data, at + 16))
    raise _no_header(image, 2, SEARCH_2)


def _tags(data: bytes, at: int) -> dict[int, tuple[int, ...]]:
    """By type the four words of the header's last tag of it, whatever its size is: so GRUB takes them."""
    tags: dict[int, tuple[int, ...]] = {}
    data = data.ljust(SEARCH_2 + 24, b"\0")
    while at < SEARCH_2:
        kind, _, size, *words = struct.unpack_from("<HHI4I", data, at)
        if not kind or not size:
            break
        tags[kind] = tuple(words)
        at += -(-size // 8) * 8
    return tags


def _kernel2(image: ElfImage, at: int, words: Mapping[int, tuple[int, ...]]) -> Kernel:
    entry = words[ENTRY][0] if ENTRY in words else None
    part = _by_addresses(image, at, *words[ADDRESS]) if ADDRESS in words else None
    return Kernel(
        entry=grub_entry(image) if entry is None else entry,
        parts=_segments(image) if part is None else (part,),
        linked=_linked(image) if part is None else part.span,
        sections=_sections(image) if part is None else Sections(),
        relocatable=Relocatable(*words[RELOCATABLE]) if RELOCATABLE in words else None,
        keeps_boot_services=EFI_BOOT_SERVICES in words,
        efi64_entry=words[EFI64_ENTRY][0] if EFI64_ENTRY in words else None,
    )


def _no_header(image: ElfImage, version: int, search: int) -> InputError:
    text = f"no header of Multiboot {version} in the first {search} bytes of the file"
    return InputError(Problem(NO_HEADER, image.name, text))


def _segments(image: ElfImage) -> tuple[Part, ...]:
    return tuple(Part(s.paddr, s.offset, s.filesz, s.memsz) for s in image.loads)


def _linked(image: ElfImage) -> Span:
    """grub_multiboot_load_elf counts segments of no bytes, too."""
    loads = [s.physical for s in image.segments if s.type == PT_LOAD]
    start = min(span.start for span in loads)
    return Span(start, max(span.end for span in loads) - start)


def _by_addresses(image: ElfImage, at: int, header: int, load: int, load_end: int, bss_end: int) -> Part:
    """What the header's own addresses say: one part, in which the header lies at `header`."""
    if load == _M32:  # Multiboot2 §3.1.5: the file is loaded from its start
        load = header - at
    offset = at - (header - load)
    size = load_end - load if load_end else image.content.size - offset
    memsz = bss_end - load if bss_end else size
    if offset < 0 or size <= 0 or offset + size > image.content.size or memsz < size:
        text = (
            f"header_addr {header:#x}, load_addr {load:#x}, load_end_addr {load_end:#x}, bss_end_addr "
            f"{bss_end:#x}: bytes {offset:#x} to {offset + size:#x} of a file of {image.content.size:#x}"
        )
        raise InputError(Problem(ADDRESSES, image.name, text))
    return Part(load, offset, size, memsz)


def grub_entry(image: ElfImage) -> int:
    """e_entry, physical: by the first program header of any type that holds it (loader/multiboot_elfxx.c).

    Raises InputError (BB-L331).
    """
    for segment in image.segments:
        if image.entry in segment.virtual:
            return segment.paddr + image.entry - segment.vaddr
    raise InputError(Problem(NO_ENTRY, image.name, f"e_entry {image.entry:#x} is in no segment"))


def qemu_entry(image: ElfImage) -> int:
    """e_entry, physical: by the last executable PT_LOAD whose file bytes hold it, or as it is (elf_ops.h)."""
    found = image.entry
    for s in image.loads:
        if s.flags & PF_X and image.entry in Span(s.vaddr, s.filesz):
            found = s.paddr + image.entry - s.vaddr
    return found & _M32


def _sections(image: ElfImage) -> Sections:
    """The section headers, as they are in the file."""
    wide = image.bits == 64
    head = image.content.read(0, 64)
    offset, size, number, names = (
        struct.unpack_from("<Q10x3H", head, 40)[:1] + struct.unpack_from("<3H", head, 58)
        if wide
        else struct.unpack_from("<I", head, 32) + struct.unpack_from("<3H", head, 46)
    )
    if not number or size != (64 if wide else 40):
        return Sections()
    headers = image.content.read(offset, number * size)
    if len(headers) < number * size:
        return Sections()  # GRUB refuses that; its model says so
    homeless = {}
    for index in range(number):
        fields = struct.unpack_from("<IIQQQQIIQQ" if wide else "<10I", headers, index * size)
        address, start, length, align = fields[3], fields[4], fields[5], fields[8]
        if not address and length:
            homeless[index] = (start, length, max(align, 1))
    return Sections(number, size, names, headers, homeless)
