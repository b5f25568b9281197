"""Targets `multiboot1` and `multiboot2`: an image that GRUB starts by a header at the start of the file."""

from __future__ import annotations

import struct

from bootbuild.api import (
    AddressOf,
    Blob,
    Contribution,
    ElfImage,
    Guest,
    NoRoute,
    Payload,
    Piece,
    Problem,
    RefusedError,
    Waist,
    load_blob,
    route,
    switches,
)
from bootbuild_baremetal import headers
from bootbuild_baremetal.headers import HeaderTag, Tag
from bootbuild_baremetal.rules import NO_CHAIN, NO_ENTRY, NO_ROUTE

ENTRY = "bb_multiboot_entry"


def _chain(payload: Payload, guest: Guest, front: str) -> tuple[Piece, ...]:
    """Front → (switch) → the guest's back. Raises RefusedError (BB-L301)."""
    width = payload.startup.width
    back = guest.back(width)
    if back is None:
        text = f"guest {guest.name} cannot be entered by a stub at width {width}"
        raise RefusedError(Problem(NO_ROUTE, payload.source, text))
    try:
        return route(Piece(load_blob("bootbuild_baremetal", front), ENTRY, None, Waist(32)), back, switches())
    except NoRoute as reason:
        raise RefusedError(Problem(NO_ROUTE, payload.source, str(reason))) from reason


def _post(payload: Payload) -> Blob:
    return load_blob("bootbuild_baremetal", f"baremetal_post_{payload.startup.width}")


class Multiboot2:
    """Adds a 32-bit front stub and a Multiboot2 header that leads to it."""

    name = "multiboot2"
    summary = "Multiboot2: GRUB on BIOS and UEFI"
    options = None
    rules = (NO_ROUTE, NO_ENTRY, NO_CHAIN)

    def contribute(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        """The front, and a header whose entry address tag names it."""
        tags = [
            Tag(HeaderTag.INFORMATION_REQUEST, body=struct.pack("<I", headers.MEMORY_MAP)),
            Tag(HeaderTag.ENTRY_ADDRESS, address=AddressOf(ENTRY)),
            Tag(HeaderTag.MODULE_ALIGN),
        ]
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            startup=payload.startup,
            chain=_chain(payload, guest, "multiboot2_front"),
            companions=(_post(payload),),
            headers=(headers.header_2(tags),),
            search=headers.SEARCH_2,
        )

    def native(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise NotImplementedError

    def chain(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise NotImplementedError

    def entry_of(self, image: ElfImage) -> int | None:
        return None


class Multiboot1:
    """Adds a 32-bit front stub at e_entry, and a Multiboot header that lets loaders enter it."""

    name = "multiboot1"
    summary = "Multiboot 1: GRUB, QEMU"
    options = None
    rules = (NO_ROUTE, NO_ENTRY, NO_CHAIN)

    def contribute(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        """The front, and a header; the file becomes ELF32, which QEMU asks for."""
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            startup=payload.startup,
            chain=_chain(payload, guest, "multiboot1_front"),
            companions=(_post(payload),),
            headers=(headers.header_1(headers.PAGE_ALIGN | headers.MEMORY_INFO),),
            search=headers.SEARCH_1,
            entry_point=ENTRY,
            elf_class=32,
        )

    def native(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise NotImplementedError

    def chain(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        raise NotImplementedError

    def entry_of(self, image: ElfImage) -> int | None:
        return None
