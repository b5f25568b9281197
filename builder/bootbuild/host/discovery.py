"""What installed distributions offer, from their metadata alone: nothing is imported here.

Pluggy's own loader lets the distribution that comes first on sys.path silently shadow the others; hence
this one, which lists every offer and leaves no choice to chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

GROUP = re.compile(r"bootbuild([0-9]{1,4})")
KINDS = ("target", "guest", "profile", "loader", "hook")


@dataclass(frozen=True, order=True)
class Offer:
    """One entry point: `kind.name`, what it points to, and whose it is."""

    kind: str  #: "" when the entry point's name has no kind
    name: str
    distribution: str
    version: str
    value: str  #: module:object
    major: int  #: of the plugin API that it was made for

    @property
    def full_name(self) -> str:
        """The entry point's name, `kind.name`."""
        return f"{self.kind}.{self.name}" if self.kind else self.name

    @property
    def owner(self) -> str:
        """`distribution version`, as messages name it."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def well_named(self) -> bool:
        """Whether the kind is known and the name fits it (`target@name` for a profile and only there)."""
        parts = self.name.split("@")
        return self.kind in KINDS and all(parts) and len(parts) == (2 if self.kind == "profile" else 1)


def canonical(distribution: str) -> str:
    """A distribution's name as packaging compares it (PyPA name normalization)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def installed() -> tuple[Offer, ...]:
    """Every offer for any plugin API of every distribution on sys.path, sorted.

    A distribution with unreadable metadata is passed over: it is not bootbuild's to judge.
    """
    found: set[Offer] = set()
    for distribution in metadata.distributions():
        try:
            found.update(_offers(distribution))
        except (ValueError, TypeError, KeyError, OSError, metadata.PackageNotFoundError):
            continue
    return tuple(sorted(found))


def _offers(distribution: metadata.Distribution) -> Iterator[Offer]:
    text = distribution.read_text("entry_points.txt") or ""
    if "bootbuild" not in text:  # parsing the metadata of everything installed would cost more than the build
        return
    fields = distribution.metadata  # read and parsed anew each time that it is asked for
    name, version = fields["Name"], fields["Version"]
    if metadata.distribution(name).read_text("entry_points.txt") != text:
        return  # an older copy further down sys.path: Python would not import from it either
    for point in distribution.entry_points:
        group = GROUP.fullmatch(point.group)
        if group:
            kind, dot, rest = point.name.partition(".")
            yield Offer(
                kind if dot else "",
                rest if dot else point.name,
                name,
                version,
                point.value,
                int(group[1]),
            )


def doubled(offers: Iterable[Offer]) -> dict[str, tuple[Offer, ...]]:
    """Full names that are offered more than once, with all their offers."""
    by_name: dict[str, list[Offer]] = {}
    for offer in offers:
        by_name.setdefault(offer.full_name, []).append(offer)
    return {name: tuple(several) for name, several in by_name.items() if len(several) > 1}
