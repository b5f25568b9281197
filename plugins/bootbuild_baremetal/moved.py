"""An image that its loader may move: which payloads can be, and where to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bootbuild.api import Guest, Payload, Piece, Problem, RefusedError, Words, load_blob
from bootbuild_baremetal.headers import PREFERENCES, Tag, relocatable_tag
from bootbuild_baremetal.rules import GUEST_STAYS, UNMOVABLE

_ENTRIES = {  #: by the width of the front that it comes before
    32: ("multiboot2_moved", "bb_multiboot_moved"),
    64: ("multiboot2_moved_efi64", "bb_multiboot_moved_efi64"),
}
_LEAST = 1 << 20  #: below are firmware's tables, and the ISA hole
_MOST = (1 << 31) - 1  #: what an address of 64-bit code reaches that is sign-extended (psABI, small model)
_PAGE, _GRANULE = 1 << 12, 2 << 20  #: bytes: to a page the stubs are aligned, to the other page tables


def mended(chain: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The chain behind a stub that mends all addresses, which is entered in the front's place."""
    front = chain[0]
    name, entry = _ENTRIES[front.blob.width]
    return (Piece(load_blob("bootbuild_baremetal", name), entry, front.takes, front.takes), *chain)


def tag(payload: Payload, preference: str) -> Tag:
    """Where the loader may put the image."""
    align = max(_GRANULE, *(s.align for s in payload.elf.loads))
    return relocatable_tag(_LEAST, _MOST, align, PREFERENCES[preference])


def addresses(payload: Payload, guest: Guest) -> Words:
    """All that has to be mended in the payload. Raises RefusedError (BB-L336, BB-L337)."""
    problems = [Problem(UNMOVABLE, payload.source, text) for text in _why_not(payload)]
    if not getattr(guest, "movable", False):
        text = f"guest {guest.name} does not say that it is movable"
        problems.append(Problem(GUEST_STAYS, payload.source, text))
    if problems:
        raise RefusedError(problems)
    assert payload.addresses is not None
    return payload.addresses


def _why_not(payload: Payload) -> Iterator[str]:
    words = payload.addresses
    if words is None:
        yield "it is no static PIE: which of its words hold addresses, nobody knows"
        return
    for s in payload.elf.loads:
        if s.vaddr != s.paddr:
            yield f"the segment at {s.virtual} is loaded at {s.physical}: it would run where it is not loaded"
    base = min(s.paddr for s in payload.elf.loads)
    align = max(_PAGE, *(s.align for s in payload.elf.loads))
    if base % align:
        yield f"its lowest byte at {base:#x} is at no multiple of {align:#x}, where a loader would put it"
    if payload.elf.physical_end > _MOST:
        yield f"it ends at {payload.elf.physical_end:#x}, above 2 GiB"
    near = next((b for a, b in pairwise(sorted(words.places)) if b - a < words.size), None)
    if near is not None:
        yield f"two relocations change the word at {near:#x}"
