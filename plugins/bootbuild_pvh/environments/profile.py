"""What all PVH profiles share: the image at its physical addresses, what is handed over, and poison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from bootbuild.abi.handover import HypervisorType
from bootbuild.api import (
    ElfImage,
    EntryState,
    Filling,
    InputError,
    Load,
    Offer,
    Platform,
    Problem,
    Region,
    Rule,
    Scene,
    Undefined,
    phys32_entry,
)
from bootbuild.platform.flat32 import Poison, poison_of, poisoned_state
from bootbuild.platform.loading import (
    GiB,
    Overwritten,
    check_kept,
    memory_size,
    overwrites,
    written,
)
from bootbuild.platform.rules import DOES_NOT_FIT, MODULES
from bootbuild_pvh.environments.placing import Placing
from bootbuild_pvh.targets import NO_ENTRY

UNDEFINED = (
    *(Undefined(name, "BB-U001") for name in ("EAX", "ECX", "EDX", "ESI", "EDI", "EBP")),
    Undefined("ESP", "BB-U002"),
    Undefined("GDTR", "BB-U003"),
    Undefined("IDTR", "BB-U003"),
    Undefined("selectors", "BB-U004"),
    Undefined("EFLAGS", "BB-U005"),
    Undefined("free memory", "BB-U006"),
)


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
        check_kept(image, loads, [*setting.overwritten, *map(written, own)])
        return Scene(
            regions=setting.regions,
            loads=(*loads, *overwrites(loads, setting.overwritten, poison), *own),
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
        """RAM in bytes, no more than `memory_limit`. Raises InputError."""
        return memory_size(image, offer, self.memory_limit)

    def image_loads(self, image: ElfImage, poison: Poison) -> list[Load]:
        """The PT_LOADs at their physical addresses, .bss zeroed."""
        return [Load(s.paddr, image.content, s.offset, s.filesz, s.memsz) for s in image.loads]


def entry_of(image: ElfImage) -> int:
    """Physical address of the PVH entry. InputError without one."""
    entry = phys32_entry(image)
    if entry is None:
        raise InputError(Problem(NO_ENTRY, image.name, "the file has no PHYS32_ENTRY note"))
    return entry
