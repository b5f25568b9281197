"""What all profiles of target `linux` share: what boot.rst leaves undefined, and how a scene is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bootbuild.abi.handover import HypervisorType
from bootbuild.api import (
    ElfImage,
    EntryState,
    Filling,
    Given,
    GivenModule,
    InputError,
    Load,
    Offer,
    Platform,
    Problem,
    Region,
    Rule,
    Scene,
    Span,
    Undefined,
    content_digest,
)
from bootbuild.platform.flat32 import Poison, general_garbage, poison_of, poisoned_state
from bootbuild.platform.loading import GiB, memory_size
from bootbuild.platform.rules import DOES_NOT_FIT, MODULES
from bootbuild_baremetal.environments.linux_header import NOT_LINUX, Bzimage, bzimage
from bootbuild_baremetal.environments.profile import CONTROL_BITS

CMDLINE = Rule(
    "BB-L441",
    "command line longer than the kernel takes",
    "cmdline_size of the setup header is the most characters that the kernel takes, without the NUL. Loaders "
    "refuse more, or cut it off.",
    "shorten the command line",
)
MAPPED = Rule(
    "BB-L442",
    "relies on memory above the promised identity map",
    "The 64-bit entry promises an identity map of the kernel (init_size bytes from where it was loaded), "
    "boot_params and the command line, and of nothing else (boot.rst, 64-bit BOOT PROTOCOL). The kernel is "
    "run with exactly that mapped, and the first MiB, where Linux 4.15 to 6.5 looks for room before it has "
    "page tables of its own.",
    "build page tables of your own before you touch other memory: the ramdisk, setup_data, ACPI",
)


@dataclass(frozen=True)
class Setting:
    """What one loader makes of one image and offer, before poison."""

    regions: tuple[Region, ...]
    kernel: tuple[Load, ...]
    given: Given  #: its `structures` are loaded too
    modules: tuple[Load, ...]
    state: EntryState
    platform: Platform
    extras: Callable[[Poison], tuple[Load, ...]]
    """Descriptor tables, page tables, ACPI: what lies beside all that."""


class LinuxProfile(ABC):
    """A program that starts Linux by one of its entries. Subclasses are data and `setting`."""

    target = "linux"
    name: str
    loader = ""
    hypervisor: HypervisorType
    undefined: tuple[Undefined, ...]
    rules: tuple[Rule, ...] = (NOT_LINUX, DOES_NOT_FIT, MODULES, CMDLINE)
    memory_limit = 3 * GiB  #: the most RAM, in bytes

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        poison = poison_of(filling, only, self.undefined)
        setting = self.setting(image, offer)
        _check_apart(image, setting)
        return Scene(
            regions=setting.regions,
            loads=(
                *self.kernel_loads(image, setting, poison),
                *setting.given.structures,
                *setting.modules,
                *setting.extras(poison),
            ),
            state=self.poisoned(setting.state, poison),
            given=setting.given,
            platform=setting.platform,
            poisoned=poison.names,
            garbage=poison.memory,
        )

    @abstractmethod
    def setting(self, image: ElfImage, offer: Offer) -> Setting:
        """The machine at the kernel's first instruction. Raises InputError."""

    def kernel_loads(self, image: ElfImage, setting: Setting, poison: Poison) -> Sequence[Load]:
        """The kernel in memory."""
        return setting.kernel

    @abstractmethod
    def poisoned(self, exact: EntryState, poison: Poison) -> EntryState:
        """The state with garbage where nothing is promised."""

    def memory(self, image: ElfImage, offer: Offer) -> int:
        """RAM in bytes. Raises InputError (BB-L003)."""
        return memory_size(image, offer, self.memory_limit)

    @staticmethod
    def header(image: ElfImage, offer: Offer) -> Bzimage:
        """The image as a bzImage that takes this command line. Raises InputError (BB-L440, BB-L441)."""
        found = bzimage(image)
        if len(offer.cmdline) > found.cmdline_size:
            text = f"{len(offer.cmdline)} bytes of command line; this kernel takes {found.cmdline_size}"
            raise InputError(Problem(CMDLINE, image.name, text))
        return found


def _check_apart(image: ElfImage, setting: Setting) -> None:
    """InputError where the loader puts the ramdisk over the kernel, and starts what is left of it."""
    for ramdisk in setting.modules:
        there = Span(ramdisk.address, ramdisk.size)
        for kernel in setting.kernel:
            if there.overlaps(Span(kernel.address, kernel.size)):
                text = f"the ramdisk goes to {there}, over the kernel's bytes at {kernel.address:#x}"
                raise InputError(Problem(DOES_NOT_FIT, image.name, text))


# boot.rst promises at the 64-bit entry: RSI, CS, DS, ES, SS and a GDT with them, IF clear, the identity map
UNDEFINED_64 = (
    *(Undefined(name, "BB-U001") for name in ("EAX", "EBX", "ECX", "EDX", "EDI", "EBP")),
    *(Undefined(f"R{number}", "BB-U001") for number in range(8, 16)),
    Undefined("ESP", "BB-U002"),
    Undefined("IDTR", "BB-U003"),
    Undefined("FS and GS", "BB-U004"),
    Undefined("EFLAGS", "BB-U005"),
    *(Undefined(name, CONTROL_BITS.id) for name in ("CR0", "CR4", "EFER")),
    Undefined("identity map", MAPPED.id),
    Undefined("free memory", "BB-U006"),
)


def poisoned_64(exact: EntryState, poison: Poison) -> EntryState:
    """The state at a 64-bit entry with this run's garbage in what `poison` names of UNDEFINED_64."""
    registers = dict(exact.registers)
    promised = registers["rsi"]
    registers |= general_garbage(registers, poison)
    registers["rsi"] = promised
    for name, number in (("rbx", 3), *((f"r{n}", n) for n in range(8, 16))):
        garbage = 0xFFFF_DEAD_0000_0000 + number, 0x5EED_0101_0101_0101 * number % (1 << 64)
        key = "EBX" if name == "rbx" else name.upper()
        registers[name] = poison.pick(key, registers.get(name, 0), *garbage)
    registers["rsp"] = poison.pick("ESP", registers.get("rsp", 0), 0xFFFF_9000_0000_0008, 0x3)
    registers["rflags"] = poison.pick("EFLAGS", registers.get("rflags", 2), 0xCD7, 0x240003)
    return replace(
        poisoned_selectors(exact, poison),
        registers=registers,
        cr0=exact.cr0 | poison.pick("CR0", 0, 0x50022, 0x20),
        cr4=exact.cr4 | poison.pick("CR4", 0, 0x648, 0x80),
        efer=exact.efer | poison.pick("EFER", 0, 0x800, 0x1),
        idtr=replace(exact.idtr, base=poison.pick("IDTR", exact.idtr.base, 0xFFFFF000, 0x7F000000)),
    )


# At the 32-bit entry: ESI, EBP, EDI and EBX, CS, DS, ES and SS and a GDT with them, no paging, IF clear
UNDEFINED_32 = (
    *(Undefined(name, "BB-U001") for name in ("EAX", "ECX", "EDX")),
    Undefined("ESP", "BB-U002"),
    Undefined("IDTR", "BB-U003"),
    Undefined("FS and GS", "BB-U004"),
    Undefined("EFLAGS", "BB-U005"),
    *(Undefined(name, CONTROL_BITS.id) for name in ("CR0", "CR4", "EFER")),
    Undefined("free memory", "BB-U006"),
)
# At the real-mode entry: the segments, SP behind the heap, IF clear
UNDEFINED_16 = (
    *(Undefined(name, "BB-U001") for name in ("EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP")),
    Undefined("GDTR", "BB-U003"),
    Undefined("EFLAGS", "BB-U005"),
    Undefined("free memory", "BB-U006"),
)


def poisoned_32(exact: EntryState, poison: Poison) -> EntryState:
    """The state at a 32-bit entry with this run's garbage in what `poison` names of UNDEFINED_32."""
    return poisoned_selectors(poisoned_state(exact, poison), poison)


def poisoned_selectors(exact: EntryState, poison: Poison) -> EntryState:
    """FS and GS with other selectors."""
    return replace(
        exact,
        fs=replace(exact.fs, selector=poison.pick("FS and GS", exact.fs.selector, 0x40, 0x888)),
        gs=replace(exact.gs, selector=poison.pick("FS and GS", exact.gs.selector, 0x48, 0x990)),
    )


def given_modules(loads: Sequence[Load]) -> tuple[GivenModule, ...]:
    """The ramdisk as a kernel must find it."""
    return tuple(GivenModule(Span(m.address, m.size), content_digest(m.content), b"") for m in loads)
