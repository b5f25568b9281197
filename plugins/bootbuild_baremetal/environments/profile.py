"""What all Multiboot profiles share: what the specifications leave undefined, and how a scene is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from bootbuild.abi.handover import BootType, HypervisorType
from bootbuild.api import (
    ElfImage,
    EntryState,
    Filling,
    Given,
    Load,
    Offer,
    Platform,
    Region,
    Rule,
    Scene,
    Undefined,
)
from bootbuild.platform.flat32 import Poison, poison_of, poisoned_state
from bootbuild.platform.loading import Overwritten, check_kept, overwrites, written
from bootbuild.platform.rules import DOES_NOT_FIT
from bootbuild_baremetal.environments.kernel import ADDRESSES, NO_ENTRY, NO_HEADER, Kernel

CONTROL_BITS = Rule(
    "BB-B050",
    "relies on undefined bits of a control register",
    "Multiboot and Linux's 32-bit entry promise CR0.PE set and CR0.PG clear, Linux's 64-bit one paging in "
    "long mode, and no more of CR0, CR4 and EFER. GRUB on a BIOS leaves 0x11, 0 and 0, GRUB on UEFI what the "
    "firmware had: 0x10033, 0x648 and NXE. The image is run with garbage there.",
    "write whole values to CR0, CR4 and EFER; do not set single bits in what you find",
)
# Multiboot 0.6.96 §3.2 and Multiboot2 2.0 §3.3: defined are EAX, EBX, the segments' hidden parts, A20, CR0.PE
# and PG, EFLAGS.VM and IF. FS and GS are flat too, which PVH does not promise.
UNDEFINED = (
    *(Undefined(name, "BB-U001") for name in ("ECX", "EDX", "ESI", "EDI", "EBP")),
    Undefined("ESP", "BB-U002"),
    Undefined("GDTR", "BB-U003"),
    Undefined("IDTR", "BB-U003"),
    Undefined("selectors", "BB-U004"),
    Undefined("EFLAGS", "BB-U005"),
    *(Undefined(name, CONTROL_BITS.id) for name in ("CR0", "CR4", "EFER")),
    Undefined("free memory", "BB-U006"),
)


@dataclass(frozen=True)
class Setting:
    """What one loader makes of one image and offer, before poison."""

    regions: tuple[Region, ...]
    image: tuple[Load, ...]
    given: Given  #: its `structures` are loaded too
    modules: tuple[Load, ...]
    state: EntryState
    platform: Platform
    extras: tuple[Load, ...] = ()  #: descriptor tables, ACPI, sections: what lies beside all that
    overwritten: tuple[Overwritten, ...] = ()
    moved: int = 0  #: bytes by which the kernel lies above where it is linked; negative: below
    poisoned: Callable[[EntryState, Poison], EntryState] = poisoned_state
    """The state with garbage where nothing is promised."""


class MultibootProfile(ABC):
    """A loader that starts images by a Multiboot header. Subclasses are data and `setting`."""

    target: str
    name: str
    loader: str
    boot_type: BootType
    hypervisor = HypervisorType.TCG  #: the machine is QEMU, where the loader was watched
    undefined: tuple[Undefined, ...] = UNDEFINED
    rules: tuple[Rule, ...] = (NO_HEADER, NO_ENTRY, ADDRESSES, DOES_NOT_FIT, CONTROL_BITS)

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        poison = poison_of(filling, only, self.undefined)
        setting = self.setting(image, self.kernel(image), offer)
        loads = list(setting.image)
        own = [*setting.given.structures, *setting.modules, *setting.extras]
        check_kept(image, loads, [*setting.overwritten, *map(written, own)])
        return Scene(
            regions=setting.regions,
            loads=(*loads, *overwrites(loads, setting.overwritten, poison), *own),
            state=setting.poisoned(setting.state, poison),
            given=setting.given,
            platform=setting.platform,
            poisoned=poison.names,
            garbage=poison.memory,
            moved=setting.moved,
        )

    @abstractmethod
    def kernel(self, image: ElfImage) -> Kernel:
        """The image by its header. Raises InputError without one."""

    @abstractmethod
    def setting(self, image: ElfImage, kernel: Kernel, offer: Offer) -> Setting:
        """The machine at the kernel's first instruction. Raises InputError."""
