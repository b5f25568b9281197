"""What all PVH profiles share: the image at its physical addresses, what is handed over, and poison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootbuild.abi.handover import HypervisorType
from bootbuild.api import (
    Descriptor,
    ElfImage,
    EntryState,
    Filling,
    InputError,
    Load,
    Offer,
    Platform,
    Problem,
    Region,
    RegionKind,
    Rule,
    Scene,
    Span,
    TableRegister,
    Undefined,
    align_up,
    phys32_entry,
)
from bootbuild_pvh.environments.placing import MODULES, Placing, put
from bootbuild_pvh.environments.poison import UNDEFINED, Poison, poison_of, poisoned_state
from bootbuild_pvh.targets import NO_ENTRY

MiB, GiB = 1 << 20, 1 << 30
_LEAST = 2 * MiB  #: of RAM: what SeaBIOS needs
_OTHER_MEMORY = "ask for another size (`[boot] memory`, `--memory`)"
_NO_TABLE = TableRegister(0, 0)

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


@dataclass(frozen=True)
class Setting:
    """What one monitor makes of one image and offer, before poison."""

    regions: tuple[Region, ...]
    placing: Placing
    state: EntryState
    platform: Platform
    extras: tuple[Load, ...] = ()  #: descriptor tables, ACPI: what start_info does not lead to
    overwritten: tuple[Overwritten, ...] = ()


class PvhProfile(ABC):
    """A monitor that starts images by their PVH entry. Subclasses are data and `setting`."""

    target = "pvh"
    name: str
    loader = ""
    undefined: tuple[Undefined, ...] = UNDEFINED
    rules: tuple[Rule, ...] = (NO_ENTRY, DOES_NOT_FIT, MODULES)
    hypervisor: HypervisorType
    memory_limit = 3 * GiB  #: the most RAM, in bytes, that lies in one block from 0

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        poison = poison_of(filling, only, self.undefined)
        setting = self.setting(image, entry_of(image), offer)
        loads = self.image_loads(image, poison)
        own = [*setting.placing.loads(offer.cmdline), *setting.extras]
        check_kept(image, loads, [*setting.overwritten, *(_own(load) for load in own)])
        return Scene(
            regions=setting.regions,
            loads=(*loads, *_overwrites(loads, setting.overwritten, poison), *own),
            state=poisoned_state(setting.state, poison),
            given=setting.placing.given(offer.cmdline, self.hypervisor),
            platform=self.poisoned_platform(setting.platform, poison),
            poisoned=poison.names,
            garbage=poison.memory,
        )

    @abstractmethod
    def setting(self, image: ElfImage, entry: int, offer: Offer) -> Setting:
        """The machine at the first instruction, at physical address `entry`. Raises InputError."""

    def poisoned_platform(self, platform: Platform, poison: Poison) -> Platform:
        """The platform of one run, where what it answers is not all defined."""
        return platform

    def memory_size(self, image: ElfImage, offer: Offer) -> int:
        """RAM in bytes: as asked, else 128 MiB, or 512 MiB for images beyond 48 MiB. Raises InputError."""
        memory = offer.memory or (512 * MiB if image.physical_end > 48 * MiB else 128 * MiB)
        most = self.memory_limit
        if memory not in range(_LEAST, most + 1, 4096):
            limit = f"{most // MiB} MiB" if most % GiB else f"{most // GiB} GiB"
            text = f"{memory:#x} bytes of RAM; this machine has 2 MiB to {limit}, in whole pages"
            raise InputError(Problem(DOES_NOT_FIT, "memory", text, _OTHER_MEMORY))
        return memory

    def image_loads(self, image: ElfImage, poison: Poison) -> list[Load]:
        """The PT_LOADs at their physical addresses, .bss zeroed."""
        return [Load(s.paddr, image.content, s.offset, s.filesz, s.memsz) for s in image.loads]


def entry_of(image: ElfImage) -> int:
    """Physical address of the PVH entry. InputError without one."""
    entry = phys32_entry(image)
    if entry is None:
        raise InputError(Problem(NO_ENTRY, image.name, "the file has no PHYS32_ENTRY note"))
    return entry


def module_bytes(offer: Offer) -> int:
    """Whole pages that the modules take, in bytes."""
    return sum(align_up(content.size, 4096) for _, content, _ in offer.modules)


def check_fit(image: ElfImage, memory: Sequence[Span], need: int) -> None:
    """InputError unless every PT_LOAD lies in memory, and `need` more bytes above them do."""
    outside = [s for s in image.loads if not any(span.covers(s.physical) for span in memory)]
    spans = ", ".join(map(str, memory))
    text = ""
    if outside:
        rest = f" (and {len(outside) - 1} more) is" if len(outside) > 1 else " is"
        text = f"segment {outside[0].physical}{rest} not in memory ({spans})"
    elif image.physical_end + need > max(span.end for span in memory):
        text = f"the image ends at {image.physical_end:#x}; modules and start_info take {need:#x} bytes"
    if text:
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


def _own(load: Load) -> Overwritten:
    return Overwritten(Span(load.address, load.memsz), "what the kernel is handed is there")


def _overwrites(loads: Sequence[Load], overwritten: Sequence[Overwritten], poison: Poison) -> list[Load]:
    """What is left of an image's memory where firmware wrote: outside an image that is free memory."""
    return [
        put(lost.start, bytes(lost.size) if over.zeroed else poison.garbage(lost.size))
        for load in loads
        for over in overwritten
        if (lost := _common(Span(load.address, load.memsz), over.span)).size > 0
    ]


def flat_state(
    entry: int,
    registers: Mapping[str, int],
    *,
    code: int,
    data: int,
    fs_gs: Descriptor | None = None,
    tr: Descriptor,
    cr0: int = 0x11,
    gdtr: TableRegister = _NO_TABLE,
    idtr: TableRegister = _NO_TABLE,
) -> EntryState:
    """The state that pvh.pandoc describes, with these selectors; FS and GS are as DS unless given."""
    flat = Descriptor(data, attributes=0xC093)
    return EntryState(
        mode="protected32",
        ip=entry,
        registers=registers,
        cr0=cr0,
        cs=Descriptor(code, attributes=0xC09B),
        ds=flat,
        es=flat,
        ss=flat,
        fs=fs_gs or flat,
        gs=fs_gs or flat,
        tr=tr,
        gdtr=gdtr,
        idtr=idtr,
    )


def mmio(address: int, size: int = 0x1000) -> Region:
    """A device's registers: the platform answers."""
    return Region(Span(address, size), RegionKind.MMIO)
