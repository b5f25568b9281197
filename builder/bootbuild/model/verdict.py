"""Judgements on what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from bootbuild.model.trace import BootTrace


class Outcome(Enum):
    """BOOTED needs every condition; FAILED needs proof; anything that ran otherwise is INCONCLUSIVE.

    REFUSED: the profile's loader does not start the file, and nobody asked for this profile by name.
    """

    BOOTED = "BOOTED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"


class Level(Enum):
    """How far a boot through a stub in the image came; where one is asked for, the boot ends there."""

    STUB = "stub"  #: a kernel's own stub has handed it over, and what it handed over was compared
    HANDOFF = "handoff"  #: the kernel's startup path, with its handover


class Evidence(Enum):
    """How a profile or loader model is known to be true."""

    ORACLE = "oracle"  #: a test holds it to the real program
    SOURCE = "source"  #: read in the real program's source
    INFERRED = "inferred"


@dataclass(frozen=True)
class Finding:
    """One broken rule in one run."""

    rule: str
    message: str
    remedy: str = ""
    lines: tuple[str, ...] = ()  #: registers, page walk: shown under the message


@dataclass(frozen=True)
class ProfileVerdict:
    """One image in one profile: three runs, judged."""

    target: str
    profile: str
    version: str
    evidence: Evidence
    outcome: Outcome
    findings: tuple[Finding, ...]
    runs: tuple[BootTrace, ...] = field(repr=False)
    handover: Mapping[str, Any] | None = None  #: what the guest found at its startup path, JSON types
    reached: str = ""  #: "startup_64", "console 'hello from'", … "" if nothing was
    level: Level | None = None  #: that was reached, where the profile's boots have levels

    @property
    def name(self) -> str:
        return f"{self.target}@{self.profile}"
