"""The plan of a UEFI application: what is to be where once firmware has gone (its stub's `struct plan`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bootbuild.model.span import Span

SYMBOL = "bb_efi_plan"
MOST_MOVES = 160  #: application.c, MAX_MOVES
_HEAD = struct.Struct("<QIIII")
_RANGE = struct.Struct("<QQ")
_MOVE = struct.Struct("<QQQ")


def size(ranges: int, moves: int) -> int:
    """Bytes of a plan."""
    return _HEAD.size + ranges * _RANGE.size + moves * _MOVE.size


def pack(
    landing: int, flags: int, taken: Sequence[Span], moves: Sequence[tuple[int, int, int]], grain: int = 0
) -> bytes:
    """The plan's bytes.

    `landing`: physical entry of the chain. `taken`: what is written over, in whole pages. `moves`: physical
    destination, address in the image, bytes. `grain`: all that may be moved by a multiple of so many bytes,
    or not if that is 0.
    """
    head = _HEAD.pack(landing, flags, len(taken), len(moves), grain)
    ranges = b"".join(_RANGE.pack(span.start, span.size) for span in taken)
    return head + ranges + b"".join(_MOVE.pack(*move) for move in moves)
