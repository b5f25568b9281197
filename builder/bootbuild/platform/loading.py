"""An image in a machine's memory: whether it fits, and what the environment writes there besides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bootbuild.errors import InputError, Problem
from bootbuild.model.content import Content, MemoryContent
from bootbuild.model.machine import Descriptor, Load, Offer, Region, RegionKind
from bootbuild.model.payload import ElfImage
from bootbuild.model.span import Span, align_up
from bootbuild.platform.flat32 import Poison
from bootbuild.platform.rules import DOES_NOT_FIT, MODULES

MiB, GiB = 1 << 20, 1 << 30
RAM, RESERVED, ACPI, NVS, UNUSABLE = 1, 2, 3, 4, 5  #: of a memory map: ACPI 6.4 §15, as E820 has them
RESET_TR = Descriptor(0, limit=0xFFFF, attributes=0x008B)  #: TR where no firmware has loaded it
OTHER_MEMORY = "ask for another size (`[boot] memory`, `--memory`)"


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
        raise InputError(Problem(DOES_NOT_FIT, "memory", text, OTHER_MEMORY))
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


def put(address: int, data: bytes | bytearray) -> Load:
    """Bytes of the environment's own, at a physical address."""
    return Load(address, MemoryContent(data), 0, len(data), len(data))


def mmio(address: int, size: int = 0x1000) -> Region:
    """A device's registers: the platform answers."""
    return Region(Span(address, size), RegionKind.MMIO)


def ramdisk(image: ElfImage, offer: Offer) -> Content | None:
    """The one module that a monitor with a single `initrd` option passes on, without a command line."""
    module = one_module(image, offer)
    if module and module[1]:
        remedy = "leave its command line out, or this profile out of `profiles`"
        raise _refused(image, offer.modules, "one module without a command line", remedy)
    return module[0] if module else None


def one_module(image: ElfImage, offer: Offer) -> tuple[Content, bytes] | None:
    """The bytes and the command line of the one module of a monitor that passes no more. InputError."""
    if len(offer.modules) > 1:
        raise _refused(image, offer.modules, "one module")
    return next(((content, cmdline) for _, content, cmdline in offer.modules), None)


def _refused(
    image: ElfImage, modules: Sequence[tuple[str, Content, bytes]], what: str, remedy: str = ""
) -> InputError:
    names = ", ".join(name for name, _, _ in modules)
    return InputError(Problem(MODULES, image.name, f"this monitor passes {what}, not {names}", remedy))
