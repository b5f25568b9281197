"""Plugin kind `loader`: the acceptance rules of one real loader, applied without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from bootbuild.model.payload import ElfImage
from bootbuild.model.rule import Rule
from bootbuild.model.verdict import Evidence


@dataclass(frozen=True)
class LoaderVerdict:
    """What that loader does with the file."""

    boot: str  #: "pvh", "xen-pv" …: the protocol that it would use
    verdict: Literal["accept", "refuse", "ignore", "wild", "crash"]
    entry: int | None = None
    rule: str = ""
    message: str = ""  #: the loader's own words


class Loader(Protocol):
    """One loader at one version."""

    name: str
    version: str
    evidence: Evidence
    source: str
    rules: tuple[Rule, ...]

    def judge(self, image: ElfImage) -> LoaderVerdict:
        """Accept or refuse, with the rule and the loader's message."""
