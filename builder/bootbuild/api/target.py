"""Plugin kind `target`: one way of being started."""

from __future__ import annotations

from typing import Any, Protocol

from bootbuild.api.guest import Guest
from bootbuild.model.contribution import Contribution
from bootbuild.model.payload import ElfImage, Payload
from bootbuild.model.rule import Rule


class Target(Protocol):
    """A boot protocol: what an image needs so that its environments start it.

    A target whose own entry of Linux does not lead to e_entry has an attribute more, `linux_startup`: the
    symbol at which it joins the other entries. One whose loaders take packed kernels (bzImage, PE) as they
    are has `packed`, which is True: its profiles and loader models read `ElfImage.file`. To all others a
    packed kernel is the ELF file in it.
    """

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def summary(self) -> str:
        """One line."""

    @property
    def options(self) -> type[Any] | None:
        """A frozen dataclass whose fields are this target's own recipe keys, all with defaults.

        `explain` says what each is for: `field(default=…, metadata={"meaning": "…"})`.
        A `Path` is of a regular file, relative to the recipe; its content counts as an input of the build.
        """

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules of its own that its findings name."""

    def contribute(self, payload: Payload, guest: Guest, options: Any) -> Contribution:
        """The part of an image that starts `payload` by a stub of ours (`entry = "insert"`).

        `options` is an instance of `self.options`, or None. Raises RefusedError with the reason.
        """

    def native(self, payload: Payload, guest: Guest, options: Any) -> Contribution:
        """The same for the payload's own entry (`entry = "native"`): no stub, only the claim.

        Raises RefusedError when the payload has none.
        """

    def chain(self, payload: Payload, guest: Guest, options: Any) -> Contribution:
        """A stub of ours before the payload's own entry, which restores all (`entry = "chain"`).

        Its Contribution has `own_entry`. Raises RefusedError when there is no such entry, or no such stub.
        """

    def entry_of(self, image: ElfImage) -> int | None:
        """Physical address where this target enters a finished image; None when it cannot (`inspect`).

        Of a target that has `entry_base`, an offset from the place that this names.
        """


def takes_packed(target: Target) -> bool:
    """Whether the target's loaders take bzImages or PE files as they are."""
    return bool(getattr(target, "packed", False))


def entry_base(target: Target) -> str:
    """From where the target's entries are counted, if not from physical address 0: its loaders choose it."""
    return str(getattr(target, "entry_base", ""))


def linux_joins(target: Target) -> str | None:
    """The symbol at which the target's own entry of Linux joins the others; None: it leads to e_entry."""
    joins: str | None = getattr(target, "linux_startup", None)
    return joins
