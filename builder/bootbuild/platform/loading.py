"""An image in a machine's memory: whether it fits, and what the environment writes there besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bootbuild.errors import InputError, Problem
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Descriptor, Load, Offer, Region, RegionKind
from bootbuild.model.payload import ElfImage
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span, align_up
from bootbuild.platform.flat32 import Poison

MiB, GiB = 1 << 20, 1 << 30
RAM, RESERVED, ACPI, NVS, UNUSABLE = 1, 2, 3, 4, 5  #: of a memory map: ACPI 6.4 §15, as E820 has them
RESET_TR = Descriptor(0, limit=0xFFFF, attributes=0x008B)  #: TR where no firmware has loaded it
_OTHER_MEMORY = "ask for another size (`[boot] memory`, `--memory`)"

DOES_NOT_FIT = Rule(
    "BB-L003",
    "image and modules do not fit into the machine's memory",
    "Every PT_LOAD must lie in memory at its physical address, and the modules beside it. A loader refuses a "
    "file that does not fit, or writes where there is no memory: above the RAM, or between 640 KiB and "
    "1 MiB. What firmware and monitor then write over the image is lost: QEMU's firmware uses most of what "
    "lies below 640 KiB, and some memory near the top. The machines emulated here have no more than 3 GiB: "
    "the rest would lie above the hole that a PC keeps below 4 GiB.",
    "give the machine more memory (`[boot] memory`, `--memory`), or link the kernel into it: at 1 MiB or "
    "above, with the ELF header in no segment (`ld -n`)",
)


@dataclass(frozen=True)
class Overwritten:
    """Physical memory that firmware uses after the image was loaded, and before the image starts."""

    span: Span
    by: str  #: whose, and for what
    zeroed: bool = False  #: it leaves zeros there, not its own values


def memory_size(
    image: ElfImage, offer: Offer, most: int = 3 * GiB, *, least: int = 2 * MiB, usual: int = 128 * MiB
) -> int:
    """RAM in bytes: as asked, else `usual`, or 512 MiB for images beyond 48 MiB. Raises InputError.

    `least`: 2 MiB are what SeaBIOS needs.
    """
    memory = offer.memory or (max(512 * MiB, usual) if image.physical_end > 48 * MiB else usual)
    if memory not in range(least, most + 1, 4096):
        limit = f"{most // MiB} MiB" if most % GiB else f"{most // GiB} GiB"
        text = f"{memory:#x} bytes of RAM; this machine has {least // MiB} MiB to {limit}, in whole pages"
        raise InputError(Problem(DOES_NOT_FIT, "memory", text, _OTHER_MEMORY))
    return memory


def module_bytes(offer: Offer) -> int:
    """Whole pages that the modules take, in bytes."""
    return sum(align_up(content.size, 4096) for _, content, _ in offer.modules)


def check_memory(image: ElfImage, parts: Iterable[Span], memory: Sequence[Span]) -> None:
    """InputError unless every part of the image lies in memory."""
    outside = [part for part in parts if not any(span.covers(part) for span in memory)]
    if outside:
        rest = f" (and {len(outside) - 1} more) is" if len(outside) > 1 else " is"
        spans = ", ".join(map(str, memory))
        text = f"segment {outside[0]}{rest} not in memory ({spans})"
        raise InputError(Problem(DOES_NOT_FIT, image.name, text))


def check_fit(image: ElfImage, memory: Sequence[Span], need: int) -> None:
    """InputError unless every PT_LOAD lies in memory, and `need` more bytes above them do."""
    check_memory(image, (segment.physical for segment in image.loads), memory)
    if image.physical_end + need > max(span.end for span in memory):
        text = f"the image ends at {image.physical_end:#x}; modules and start_info take {need:#x} bytes"
        raise InputError(Problem(DOES_NOT_FIT, image.name, text))


def check_kept(image: ElfImage, loads: Sequence[Load], overwritten: Sequence[Overwritten]) -> None:
    """InputError for bytes of the file that would be overwritten; .bss has none, and can be cleared."""
    problems = [
        Problem(
            DOES_NOT_FIT,
            image.name,
            f"the file's bytes at {lost} are overwritten before the kernel starts: {over.by} ({over.span})",
        )
        for load in loads
        if load.content is image.content  # what else is there is garbage in .bss
        for over in overwritten
        if (lost := _common(Span(load.address, load.size), over.span)).size > 0
    ]
    if problems:
        raise InputError(problems[0])


def _common(one: Span, other: Span) -> Span:
    start = max(one.start, other.start)
    return Span(start, min(one.end, other.end) - start)


def written(load: Load) -> Overwritten:
    """What the environment puts there itself."""
    return Overwritten(Span(load.address, load.memsz), "what the kernel is handed is there")


def overwrites(loads: Sequence[Load], overwritten: Sequence[Overwritten], poison: Poison) -> list[Load]:
    """What is left of an image's memory where firmware wrote: outside an image that is free memory."""
    return [
        put(lost.start, bytes(lost.size) if over.zeroed else poison.garbage(lost.size))
        for load in loads
        for over in overwritten
        if (lost := _common(Span(load.address, load.memsz), over.span)).size > 0
    ]


def put(address: int, data: bytes) -> Load:
    """Bytes of the environment's own, at a physical address."""
    return Load(address, MemoryContent(data), 0, len(data), len(data))


def mmio(address: int, size: int = 0x1000) -> Region:
    """A device's registers: the platform answers."""
    return Region(Span(address, size), RegionKind.MMIO)
