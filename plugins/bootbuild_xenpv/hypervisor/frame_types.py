"""What each frame of a domain is in use as: nothing, a page table of one level, writable, descriptors.

A frame has a type while something needs it to be of that type: an entry that maps it writable, a table
that leads to it, a pin, the root in use. The last of them gone, it may become anything else (get_page_type,
put_page_type: xen/arch/x86/mm.c).
"""

from __future__ import annotations

from array import array

from bootbuild.platform.xen import EINVAL
from bootbuild_xenpv.environments.frames import Frames
from bootbuild_xenpv.hypervisor.hypercall import Refused

NONE, L1, L2, L3, L4, WRITABLE, DESCRIPTORS = range(7)
NAMES = (
    "untyped",
    *(f"a page table of level {level}" for level in (1, 2, 3, 4)),
    "writable",
    "a page of descriptors",
)


class FrameTypes:
    """The type of each machine frame of one domain, and how many uses it has."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._first, self._owned = frames.first, frames.m2p
        self._type = bytearray(frames.size)
        self._uses = array("L", bytes(array("L").itemsize * frames.size))

    def kind(self, frame: int, error: int = EINVAL) -> int:
        """The present type. Raises Refused with `error` if the frame is not the domain's own."""
        return self._type[self._index(frame, error)]

    def is_table(self, frame: int, level: int = 0) -> bool:
        """Whether a frame is in use as a page table (of `level`); False for one that is another's."""
        index = frame - self._first
        kind = self._type[index] if 0 <= index < len(self._type) else NONE
        return kind == level if level else L1 <= kind <= L4

    def take(self, frame: int, kind: int, error: int = EINVAL) -> bool:
        """One more use as `kind`; True for the first. Raises Refused with `error` where that may not be."""
        index = self._index(frame, error)
        if not self._uses[index]:
            self._type[index] = kind
        elif self._type[index] != kind:
            uses = f"{self._uses[index]} time{'s' if self._uses[index] > 1 else ''}"
            is_now = f"{NAMES[self._type[index]]} (in use {uses})"
            raise Refused(f"machine frame {frame:#x} is {is_now}, not {NAMES[kind]}", error)
        self._uses[index] += 1
        return self._uses[index] == 1

    def drop(self, frame: int) -> int:
        """One use less: the type that this was the last use of, or NONE."""
        index = self._index(frame)
        self._uses[index] -= 1
        if self._uses[index]:
            return NONE
        kind, self._type[index] = self._type[index], NONE
        return kind

    def _index(self, frame: int, error: int = EINVAL) -> int:
        index = frame - self._first
        if 0 <= index < len(self._owned) and self._owned[index] != 2**64 - 1:
            return index
        text = f"machine frame {frame:#x} is not this domain's"
        if frame < self._frames.count:
            text += f"; as a pseudo-physical one it would be machine frame {self._frames.p2m[frame]:#x}"
        raise Refused(text, error)
