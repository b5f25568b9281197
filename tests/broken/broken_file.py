"""One way in which a file can be wrong, or unusual: a change of the bytes of a good one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Broken:
    """A name, and what makes such a file of a good one."""

    name: str
    change: Change

    def __str__(self) -> str:
        return self.name
