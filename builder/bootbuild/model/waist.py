"""Between a front stub and a back stub: what the one leaves, what the other needs, and how they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from bootbuild.model.blob import Blob


@dataclass(frozen=True)
class Waist:
    """The machine between two pieces. At width 32: EDI = boot type, ESI = record; at 64: RDI, RSI."""

    width: int  #: 32: flat protected mode, paging off; 64: long mode, identity map
    privilege: int = 0  #: CPL
    owns_paging: bool = True  #: the guest may replace the page tables
    boot_services: bool = False  #: the firmware is still alive

    def differences(self, other: Waist) -> list[str]:
        """What distinguishes `other` from this, in words."""
        found = []
        if self.width != other.width:
            found.append(f"{self.width}-bit against {other.width}-bit")
        if self.privilege != other.privilege:
            found.append(f"CPL {self.privilege} against CPL {other.privilege}")
        if self.owns_paging != other.owns_paging:
            whose = {True: "its own", False: "the environment's"}
            mine, theirs = whose[self.owns_paging], whose[other.owns_paging]
            found.append(f"page tables of {mine} against page tables of {theirs}")
        if self.boot_services != other.boot_services:
            state = {True: "alive", False: "ended"}
            mine, theirs = state[self.boot_services], state[other.boot_services]
            found.append(f"boot services {mine} against boot services {theirs}")
        return found


@dataclass(frozen=True)
class Piece:
    """One stub of a chain. A front takes nothing (the environment enters it), a back leaves nothing.

    `entry` is the exported symbol where it is entered; it jumps on to `bb_next`.
    """

    blob: Blob
    entry: str
    takes: Waist | None
    leaves: Waist | None


class NoRoute(Exception):
    """A front and a back that cannot meet; the text says why."""


def route(front: Piece, back: Piece, switches: Sequence[Piece]) -> tuple[Piece, ...]:
    """The shortest chain front → switches → back in which each piece takes what the last one left.

    Computed from what the pieces declare, never listed. Raises NoRoute.
    """
    for count in range(len(switches) + 1):
        for middle in permutations(switches, count):
            chain = (front, *middle, back)
            if all(a.leaves == b.takes for a, b in pairwise(chain)):
                return chain
    assert front.leaves is not None
    assert back.takes is not None
    raise NoRoute(
        f"{front.blob.name} leaves what {back.blob.name} cannot take: "
        + "; ".join(front.leaves.differences(back.takes))
    )
