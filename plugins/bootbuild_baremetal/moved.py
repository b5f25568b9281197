"""An image that its loader may move: the stub before its front, and the tag that says where to."""

from __future__ import annotations

from bootbuild.api import REACH, Payload, Piece, grain_of, load_blob
from bootbuild_baremetal.headers import PREFERENCES, Tag, relocatable_tag

_ENTRIES = {  #: by the width of the front that it comes before
    32: ("multiboot2_moved", "bb_multiboot_moved"),
    64: ("multiboot2_moved_efi64", "bb_multiboot_moved_efi64"),
}
_LEAST = 1 << 20  #: below are firmware's tables, and the ISA hole


def mended(chain: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The chain behind a stub that mends all addresses, which is entered in the front's place."""
    front = chain[0]
    name, entry = _ENTRIES[front.blob.width]
    return (Piece(load_blob("bootbuild_baremetal", name), entry, front.takes, front.takes), *chain)


def tag(payload: Payload, preference: str) -> Tag:
    """Where the loader may put the image."""
    return relocatable_tag(_LEAST, REACH - 1, grain_of(payload.elf), PREFERENCES[preference])
