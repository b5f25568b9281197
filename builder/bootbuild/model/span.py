"""A range of addresses or file offsets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Span:
    """`size` bytes from `start`; both in bytes, `start` physical, virtual or a file offset by context."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """First byte after the span."""
        return self.start + self.size

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.end

    def covers(self, other: Span) -> bool:
        """Whether `other` lies wholly inside."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: Span) -> bool:
        """Whether one byte at least is in both."""
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


def align_up(value: int, alignment: int) -> int:
    """The least multiple of `alignment` (a power of two) that is not below `value`."""
    return (value + alignment - 1) & ~(alignment - 1)


def holes(within: Span, used: Iterable[Span]) -> list[Span]:
    """What of `within` no span of `used` touches, in ascending order."""
    free: list[Span] = []
    at = within.start
    for span in sorted(used):
        if span.start > at:
            free.append(Span(at, min(span.start, within.end) - at))
        at = max(at, span.end)
        if at >= within.end:
            break
    if at < within.end:
        free.append(Span(at, within.end - at))
    return [span for span in free if span.size > 0]
