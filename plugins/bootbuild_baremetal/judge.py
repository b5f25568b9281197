"""Each part of what a Multiboot2 kernel is handed, compared with what the environment gave."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence

from bootbuild.abi import multiboot2
from bootbuild.abi.handover import MAGIC, Handover
from bootbuild.abi.multiboot2 import EfiMemoryMap, Multiboot2Info, TagType
from bootbuild.api import (
    Finding,
    Framebuffer,
    Given,
    GuestView,
    MapEntry,
    Span,
    Startup,
    cmdline_fault,
    map_fault,
    module_faults,
    record_faults,
    state_faults,
)

PAIR = MAGIC  #: type of the tag that holds the record: the bytes "BBHO"
MAX_SIZE = 1 << 20  #: bytes of information that are read
RAM = 1
LOWER_END, UPPER_START = 0xA0000, 0x100000
RSDP_OLD_SIZE, RSDP_REVISION, RSDP_LENGTH = 20, 15, 20  #: ACPI 6.5, 5.2.5.3: bytes, and offsets of fields
_GIVEN = (
    TagType.CMDLINE,
    TagType.LOADER_NAME,
    TagType.MODULE,
    TagType.MEMORY,
    TagType.MEMORY_MAP,
    TagType.EFI64,
    TagType.ACPI_OLD,
    TagType.ACPI_NEW,
    TagType.EFI_MEMORY_MAP,
    TagType.FRAMEBUFFER,
    TagType.LOAD_BASE,
    PAIR,
)


def information(view: GuestView) -> Multiboot2Info:
    """What EAX and EBX promise. Raises ValueError with what is wrong, in words."""
    magic, address = view.get("eax"), view.get("ebx")
    if magic != multiboot2.MAGIC:
        raise ValueError(f"EAX is {magic:#x}, not {multiboot2.MAGIC:#x}")
    if address % multiboot2.ALIGN:
        raise ValueError(f"the information at {address:#x} is not at a multiple of {multiboot2.ALIGN}")
    try:
        size = int.from_bytes(view.read_physical(address, 4), "little")
        data = view.read_physical(address, min(size, MAX_SIZE))
        found = Multiboot2Info.unpack(data)
        found.modules, found.memory_map  # noqa: B018 - their bodies may be cut off
    except LookupError:
        raise ValueError(f"the information would be at {address:#x}, which is not memory") from None
    except struct.error as reason:
        raise ValueError(f"a tag of the information at {address:#x} is too short: {reason}") from None
    return found


def state(view: GuestView, startup: Startup, stub: Span) -> list[Finding]:
    """The machine as Multiboot2 and our back have it."""
    wrong = state_faults(view, startup.width, frozenset({"ax", "bx"}), stub)
    return [Finding("BB-H046", text) for text in wrong]


def gifts(info: Multiboot2Info, given: Given, view: GuestView, inserted: bool) -> list[Finding]:
    """Command line, modules, memory and RSDP."""
    found = [Finding("BB-H041", text) for text in [cmdline_fault(info.cmdline, given)] if text]
    modules = [(Span(m.start, m.end - m.start), m.cmdline) for m in info.modules]
    found += [Finding("BB-H042", text) for text in module_faults(modules, given, view)]
    found += [Finding("BB-H043", text) for text in _memory(info, given, inserted) if text]
    found += [Finding("BB-H044", text) for text in _rsdp(info, given, view)]
    return found


def _memory(info: Multiboot2Info, given: Given, inserted: bool) -> Iterator[str]:
    table = info.memory_map
    if not inserted:
        table = tuple(sorted((e for e in table if e.size), key=lambda e: (e.address, e.size, e.type)))
    yield map_fault(table, given)
    if inserted:
        tag = info.body(TagType.MEMORY)
        expected = struct.pack("<II", *kib(given.memory_map))
        if tag != expected:
            said = "is not there" if tag is None else f"says {_words(tag)} KiB"
            yield f"basic memory information {said}; the map has {_words(expected)} KiB"


def _words(body: bytes) -> str:
    return " and ".join(str(word) for (word,) in struct.iter_unpack("<I", body[: len(body) // 4 * 4]))


def kib(memory: Sequence[MapEntry]) -> tuple[int, int]:
    """KiB of RAM without a gap from 0, up to 640, and from 1 MiB on."""
    ends = []
    for start in (0, UPPER_START):
        end = start
        for entry in sorted(memory, key=lambda e: e.address):
            if entry.type == RAM and entry.address <= end:
                end = max(end, entry.address + entry.size)
        ends.append(end - start)
    return min(ends[0], LOWER_END) >> 10, min(ends[1] >> 10, 0xFFFFFFFF)


def _rsdp(info: Multiboot2Info, given: Given, view: GuestView) -> Iterator[str]:
    old, new = info.body(TagType.ACPI_OLD), info.body(TagType.ACPI_NEW)
    if not given.rsdp:
        if old is not None or new is not None:
            yield "there is a copy of an RSDP, the environment gave none"
        return
    head = view.read_physical(given.rsdp, RSDP_OLD_SIZE)
    if head[RSDP_REVISION] == 0:
        expected, found = head, old
    else:
        size = int.from_bytes(view.read_physical(given.rsdp + RSDP_LENGTH, 4), "little")
        expected, found = view.read_physical(given.rsdp, size), new
    if found != expected:
        said = "there is no copy of it" if found is None else "the copy is another"
        yield f"the RSDP at {given.rsdp:#x} has revision {head[RSDP_REVISION]}; {said}"


def others(info: Multiboot2Info, given: Given, startup: Startup, view: GuestView) -> list[Finding]:
    """Tags of an inserted entry that say what is not so, or say it twice."""
    wrong = []
    for kind, count in Counter(tag.type for tag in info.tags).items():
        if kind not in _GIVEN:
            wrong.append(f"tag {kind:#x} tells of what the environment did not give")
        elif count > 1 and kind != TagType.MODULE:
            wrong.append(f"tag {kind:#x} is there {count} times")
    if not info.loader_name:
        wrong.append("no boot loader name")
    if info.efi_system_table != given.efi_system_table:
        text = f"EFI system table is {info.efi_system_table:#x}"
        wrong.append(f"{text}, the environment gave {given.efi_system_table:#x}")
    efi_map, span = None, given.efi_memmap
    if span.size:
        form = given.efi_memmap_descriptor_size, given.efi_memmap_descriptor_version
        efi_map = EfiMemoryMap(*form, view.read_physical(span.start, span.size))
    if info.efi_memory_map != efi_map:
        wrong.append(f"EFI memory map is not that of {span.size} bytes which the environment gave")
    if info.body(TagType.FRAMEBUFFER) != _framebuffer(given.framebuffer):
        wrong.append(
            f"tag {TagType.FRAMEBUFFER:d} is not the screen that the environment gave: {given.framebuffer}"
        )
    base = info.body(TagType.LOAD_BASE)
    if base is not None and int.from_bytes(base, "little") > startup.paddr:
        wrong.append(f"the load base {int.from_bytes(base, 'little'):#x} is above {startup.paddr:#x}")
    return [Finding("BB-H047", text) for text in wrong]


def _framebuffer(given: Framebuffer | None) -> bytes | None:
    """The body of tag 8, of type 1 (direct colours), for a screen (Multiboot2, 3.6.12)."""
    if given is None:
        return None
    shape = (given.address, given.pitch, given.width, given.height, given.bits_per_pixel)
    return struct.pack("<Q3I2B2x6B", *shape, 1, *given.colours)


def pair(
    info: Multiboot2Info, given: Given, view: GuestView, startup: Startup, stub: Span
) -> tuple[Handover | None, list[Finding]]:
    """The record in its tag, and what is wrong with it."""
    body = info.body(PAIR)
    if body is None:
        return None, [Finding("BB-H045", f"there is no tag of type {PAIR:#x}")]
    try:
        record = Handover.parse(lambda at, size: body[at : at + size], 0)
    except ValueError as reason:
        return None, [Finding("BB-H045", f"record in its tag: {reason}")]
    faults = record_faults(record, given, view, startup, stub, kept=False)
    return record, [Finding("BB-H045", text) for _, text in faults]
