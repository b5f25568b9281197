"""An image that is moved when it is started: which payloads can be, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bootbuild.api.guest import Guest
from bootbuild.errors import Problem, RefusedError
from bootbuild.model.payload import ElfImage, Payload, Words
from bootbuild.model.rule import Rule

REACH = (
    1 << 31
)  #: physical: what 64-bit code can name, whose addresses are sign-extended (psABI, small model)
_PAGE, _GRANULE = 1 << 12, 2 << 20  #: bytes: to a page the stubs are aligned, to the other page tables


def grain_of(image: ElfImage) -> int:
    """Bytes of which a kernel's place is a multiple: its largest `p_align`, and no less than 2 MiB."""
    return max([_GRANULE, *(s.align for s in image.loads)])


def words_of(payload: Payload, guest: Guest, unmovable: Rule, stays: Rule) -> Words:
    """All that has to be mended in a payload that is moved.

    Raises RefusedError by the target's own rules: `unmovable` for what is wrong with the payload, `stays`
    for a guest whose back would not know of it.
    """
    finds_itself = getattr(guest, "finds_itself", None)
    found = finds_itself is not None and finds_itself(payload.elf, payload.startup)
    words = Words() if found else payload.addresses
    faults = [*_why_not_there(payload), *([] if found else _why_not_mended(payload))]
    problems = [Problem(unmovable, payload.source, text) for text in faults]
    if not getattr(guest, "movable", False):
        text = f"guest {guest.name} does not say that it is movable"
        problems.append(Problem(stays, payload.source, text))
    if problems:
        raise RefusedError(problems)
    assert words is not None
    return words


def _why_not_mended(payload: Payload) -> Iterator[str]:
    words = payload.addresses
    if words is None:
        yield "it is no static PIE: which of its words hold addresses, nobody knows"
        return
    for s in payload.elf.loads:
        if s.vaddr != s.paddr:
            yield f"the segment at {s.virtual} is loaded at {s.physical}: it would run where it is not loaded"
    near = next((b for a, b in pairwise(sorted(words.places)) if b - a < words.size), None)
    if near is not None:
        yield f"two relocations change the word at {near:#x}"


def _why_not_there(payload: Payload) -> Iterator[str]:
    base = min(s.paddr for s in payload.elf.loads)
    align = max(_PAGE, *(s.align for s in payload.elf.loads))
    if align >= REACH:
        yield f"its p_align of {align:#x} leaves no other place below 2 GiB"
    elif base % align:
        yield f"its lowest byte at {base:#x} is at no multiple of {align:#x}, where a loader would put it"
    if payload.elf.physical_end >= REACH:
        yield f"it ends at {payload.elf.physical_end:#x}, above 2 GiB"
