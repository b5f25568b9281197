"""OVMF's memory map when it loads a program, as QEMU's -kernel names it: who has what at the end of RAM."""

from __future__ import annotations

from collections.abc import Iterator

from bootbuild.model.span import Span
from bootbuild.platform.loading import MiB
from bootbuild.platform.uefi.ovmf import PAGE, Descriptor, MemoryType, Ovmf

_TYPES = {
    "res": MemoryType.RESERVED, "bc": MemoryType.BOOT_SERVICES_CODE, "bd": MemoryType.BOOT_SERVICES_DATA,
    "rc": MemoryType.RUNTIME_CODE, "rd": MemoryType.RUNTIME_DATA, "--": MemoryType.CONVENTIONAL,
    "acpi": MemoryType.ACPI_RECLAIM, "nvs": MemoryType.ACPI_NVS,
}  # fmt: skip
# Types and numbers of pages, up to the end of RAM, before the program is loaded: 2022.11 with 512 MiB
_TOP = (
    "bc:9e --:17 bd:28 bc:5 bd:1 bc:1d bd:3 bc:a bd:2 bc:17 bd:1 bc:8 bd:4 bc:17 bd:5 bc:14 bd:3 bc:3 bd:5 "
    "bc:15 bd:8 bc:23 bd:2 bc:14 bd:7 bc:23 bd:3 bc:5 bd:2 bc:a bd:1 bc:63 bd:3 bc:e bd:3 bc:8 bd:8 bc:5 "
    "bd:1 bc:4 bd:3 bc:13 bd:1 bc:1 bd:4 bc:13 bd:200 bc:12 bd:5 bc:1 bd:2 bc:13 bd:3 bc:1 bd:1 bc:7 bd:7 "
    "bc:4 bd:8 bc:e bd:2 bc:13 bd:2 bc:1e bd:8 bc:3 bd:3 bc:3 rd:102 bd:400 bc:6f bd:2 bc:1b bd:5 bc:1 bd:1 "
    "bc:2 bd:2 bc:6 bd:12 bc:16 bd:2 bc:1 bd:1 bc:1 bd:1 bc:1 bd:1 bc:2 bd:2 bc:2 bd:2 bc:4 bd:2 bc:1 bd:2 "
    "bc:9 bd:3 bc:3 bd:45d rd:100 rc:100 res:80 acpi:12 nvs:80 bd:602 --:81 bd:20 bc:2e bd:11 bc:14 rd:84 "
    "nvs:88"
).split()
_OLD_STACK = 0x448B000  #: bytes below the end of RAM: what PEI leaves, 128 KiB
_FREED = (0x1A0E000, 6)  #: bytes below the end of RAM, pages: free again once the program is loaded
EARLY = Span(0x900000, 0xC00000)  #: boot services' from the first on, PEI included
USUAL_END = 0xB14000  #: bytes below the end of RAM: what lies above is kept for the firmware


def descriptors(firmware: Ovmf) -> Iterator[Descriptor]:
    """The map while the program is being loaded, in ascending order."""
    pieces = [piece.split(":") for piece in _TOP]
    top = firmware.memory - sum(int(pages, 16) for _, pages in pieces) * PAGE
    old, early = Span(firmware.memory - _OLD_STACK, 0x20 * PAGE), EARLY
    low = (d for d in firmware.kept if d.span.end <= early.start)
    taken = (*low, *(Descriptor(MemoryType.BOOT_SERVICES_DATA, span) for span in (early, old)))
    yield Descriptor(MemoryType.CONVENTIONAL, Span(0, 0xA0000))
    at = MiB
    for descriptor in taken:
        if descriptor.span.start > at:
            yield Descriptor(MemoryType.CONVENTIONAL, Span(at, descriptor.span.start - at))
        yield descriptor
        at = descriptor.span.end
    yield Descriptor(MemoryType.CONVENTIONAL, Span(at, top - at))
    for kind, pages in pieces:
        span = Span(top, int(pages, 16) * PAGE)
        yield Descriptor(_TYPES[kind], span)
        top = span.end
    yield from (d for d in firmware.kept if d.span.start >= firmware.memory)


def freed(firmware: Ovmf) -> Span:
    """What the firmware gives back when it has loaded the program."""
    below, pages = _FREED
    return Span(firmware.memory - below, pages * PAGE)
