"""What one build made and saw: the value behind the table and `--json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bootbuild.model.verdict import Outcome, ProfileVerdict


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of several; INCONCLUSIVE where nothing booted."""
    seen = set(outcomes)
    for one in (Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.BOOTED):
        if one in seen:
            return one
    return Outcome.INCONCLUSIVE


@dataclass(frozen=True)
class ImageRecord:
    """One image: where it is, what it is, how it did."""

    path: str  #: as the user would name it
    targets: tuple[str, ...]
    size: int  #: bytes
    digest: str  #: SHA-256, hex
    entries: Mapping[str, int]  #: target → physical entry address
    verdicts: tuple[ProfileVerdict, ...]
    repairs: tuple[str, ...] = ()  #: what was wrong with the payload's notes, and is mended here

    @property
    def outcome(self) -> Outcome:
        """FAILED if a profile failed, else INCONCLUSIVE if one is or none ran, else BOOTED."""
        return overall(verdict.outcome for verdict in self.verdicts)


@dataclass(frozen=True)
class BuildRecord:
    """One recipe, built and booted."""

    recipe: str
    payload: str
    payload_format: str
    payload_digest: str
    images: tuple[ImageRecord, ...]
    plugins: tuple[tuple[str, str], ...]  #: (distribution, version) of everything that took part
    bootbuild: str  #: version
    payload_changes: tuple[str, ...] = ()  #: what was done to the payload first: moved, relocated, wrapped
    seconds: float = field(default=0.0, compare=False)
    reused: bool = field(default=False, compare=False)  #: nothing had changed: this is what was seen before
