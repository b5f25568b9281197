"""Target `toymon`: what an image needs so that the monitor starts it, as it is written into the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from bootbuild.api import (
    AddressOf,
    Contribution,
    ElfImage,
    Guest,
    InputError,
    NoteSpec,
    Payload,
    Piece,
    Problem,
    RefusedError,
    Rule,
    Waist,
    chain_of,
    load_blob,
)
from bootbuild_toymon.monitor import NO_ENTRY, read_header

OWNER, ENTRY, NEEDS = "Toymon", 1, 2  #: README.md: the two notes
VERSION = 1

NO_ROUTE = Rule(
    "TOYMON-006",
    "no stub that leads from toymon to this kernel",
    "The front stub leaves 32-bit protected mode; no switch leads from there to what the guest's back needs. "
    "Nor is there a stub that runs before the kernel's own entry: toymon's loader leaves it nothing to do.",
    "choose another guest protocol or width, or `entry` native or insert",
)


@dataclass(frozen=True)
class Options:
    """What a recipe may say under `[targets.toymon]`, beside what every target has."""

    memory: int = field(
        default=4, metadata={"meaning": "MiB of RAM without which the monitor is not to start the image"}
    )

    def __post_init__(self) -> None:
        if not 1 <= self.memory < 4096:
            raise ValueError(f"memory is {self.memory} MiB, not between 1 and 4095")


class Toymon:
    """A 32-bit front stub, the post stub beside it, and the two notes."""

    name = "toymon"
    summary = "toymon, a monitor that does not exist"
    options = Options
    rules = (NO_ENTRY, NO_ROUTE)

    def contribute(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """Front → switches, if needed → the guest's back. Raises RefusedError (TOYMON-006)."""
        width = payload.startup.width
        front = Piece(load_blob("bootbuild_toymon", "toymon_front"), "toymon_entry", None, Waist(32))
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            startup=payload.startup,
            chain=chain_of(front, guest.back(width), payload, guest, NO_ROUTE),
            companions=(load_blob("bootbuild_toymon", f"toymon_post_{width}"),),
            notes=(
                NoteSpec(OWNER, ENTRY, AddressOf("toymon_entry")),
                NoteSpec(OWNER, NEEDS, struct.pack("<HHI", VERSION, 0, options.memory)),
            ),
        )

    def native(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """The payload's own entry, as it is. Raises RefusedError (TOYMON-001)."""
        if self.entry_of(payload.elf) is None:
            raise RefusedError(Problem(NO_ENTRY, payload.source, "the payload has no entry of its own"))
        return Contribution(target=self.name, guest=guest.name, container="elf", startup=payload.startup)

    def chain(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """Nothing is to be done before a toymon entry. Raises RefusedError (TOYMON-006)."""
        raise RefusedError(Problem(NO_ROUTE, payload.source, "no stub runs before the payload's own entry"))

    def entry_of(self, image: ElfImage) -> int | None:
        try:
            return read_header(image).entry
        except InputError:
            return None
