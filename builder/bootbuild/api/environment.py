"""Plugin kind `profile`: one way in which one real program starts an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bootbuild.api.machine import Platform
from bootbuild.model.machine import EntryState, Filling, Given, Load, Offer, Region, Undefined
from bootbuild.model.payload import ElfImage
from bootbuild.model.rule import Rule
from bootbuild.model.span import Span
from bootbuild.model.verdict import Evidence


@dataclass(frozen=True)
class Scene:
    """Everything about one run, set up and ready: the machine is built from this and nothing else."""

    regions: tuple[Region, ...]
    loads: tuple[Load, ...]  #: in order; later ones win
    state: EntryState
    given: Given
    platform: Platform
    poisoned: frozenset[str] = frozenset()  #: names of the `Undefined` that were filled with garbage
    garbage: int = 0  #: seed of the garbage in RAM that nothing loads; 0: zeros
    frames: Sequence[int] = ()  #: machine frame of each of the guest's frames; () where they are the same
    first_frame: int = 0  #: the image's physical address (p_paddr) of the first of `frames`
    moved: int = 0  #: bytes by which the image lies above where it is linked; negative: below
    grain: int = 0  #: bytes: by a multiple of that a program in the image may move it; 0: nobody does
    filled: tuple[Span, ...] = ()  #: of the image's memory, what the environment wrote as it was asked


class Profile(Protocol):
    """An environment: it reads the image as that program's loader does and sets the machine up.

    One in which an image may give up, as long as it says so, has an attribute more, `may_give_up`: the rules
    of that. Where a recipe does not name the profile such an image is refused there, and has not failed.
    One whose images bring a boot stub of their own has `levels`, which is True: reports name the level.
    """

    @property
    def target(self) -> str:
        """The target that it starts images of: "pvh"."""

    @property
    def name(self) -> str:
        """Its name within the target: the profile is called TARGET@NAME."""

    @property
    def version(self) -> str:
        """Of the program that it was compared with."""

    @property
    def evidence(self) -> Evidence:
        """How it is known to be true."""

    @property
    def source(self) -> str:
        """Where the facts are from."""

    @property
    def summary(self) -> str:
        """One line."""

    @property
    def loader(self) -> str:
        """Name of the loader model that judges a file first; empty for none."""

    @property
    def undefined(self) -> tuple[Undefined, ...]:
        """What the ABI leaves undefined; poisoned in runs 2 and 3."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules of its own that its findings name."""

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        """Set up one run.

        `only` restricts the poison to the named `undefined` ones (to find out which of them a guest
        relies on). Raises InputError when this program would refuse the file, with its own message.
        """


def has_levels(profile: Profile) -> bool:
    """Whether boots in this profile go through stubs in their images, so that a report names their level."""
    return bool(getattr(profile, "levels", False))


def may_give_up(profile: Profile) -> frozenset[str]:
    """The rules whose findings say that an image has given up where it may."""
    return frozenset(getattr(profile, "may_give_up", ()))
