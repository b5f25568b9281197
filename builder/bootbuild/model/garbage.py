"""What stands in memory where nobody has promised anything."""

from __future__ import annotations

import functools
import random

SIZE = 64 << 10  #: bytes of garbage that repeat


@functools.lru_cache(maxsize=3)
def garbage_of(seed: int) -> bytes:
    """SIZE bytes that differ from seed to seed; the three runs of a boot have one each."""
    return random.Random(seed).randbytes(SIZE)  # noqa: S311 (garbage is no secret)
