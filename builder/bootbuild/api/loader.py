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
    rule: str = ""  #: id of the rule of its own that the file breaks; the finding has it
    message: str = ""  #: the loader's own words


class Loader(Protocol):
    """One loader at one version."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def version(self) -> str:
        """Of the program that it models."""

    @property
    def evidence(self) -> Evidence:
        """How it is known to be true."""

    @property
    def source(self) -> str:
        """Where the facts are from."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules of its own that its findings name."""

    def judge(self, image: ElfImage) -> LoaderVerdict:
        """Accept or refuse, with the rule and the loader's message."""
