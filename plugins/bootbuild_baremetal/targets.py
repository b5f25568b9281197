"""Targets `multiboot1` and `multiboot2`: an image that is started by a header at the start of its file."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NoReturn

from bootbuild.api import (
    AddressOf,
    Contribution,
    ElfImage,
    Guest,
    InputError,
    Payload,
    Piece,
    Problem,
    RefusedError,
    Shadow,
    Waist,
    chain_of,
    load_blob,
    words_of,
)
from bootbuild_baremetal import headers, moved, own
from bootbuild_baremetal.headers import HeaderTag, Tag
from bootbuild_baremetal.options import Asked, Options1, Options2, video_mode
from bootbuild_baremetal.rules import (
    GUEST_STAYS,
    LOW_LINKED,
    NO_CHAIN,
    NO_ROUTE,
    RULES,
    SHADOWED,
    UNMOVABLE,
    UNREAD,
)

ENTRY, ENTRY_EFI64 = "bb_multiboot_entry", "bb_multiboot_entry_efi64"
_UPPER_HALF = 1 << 47
_BEFORE_PVH = tuple(
    Shadow(f"pvh@{name}", SHADOWED, "QEMU would start it by its Multiboot 1 header")
    for name in ("qemu", "qemu-microvm")
)


def _inserted(target: str, payload: Payload, guest: Guest) -> Contribution:
    """Front → (switch) → the guest's back, and the post stub. Raises RefusedError (BB-L301)."""
    width = payload.startup.width
    front = Piece(load_blob("bootbuild_baremetal", f"{target}_front"), ENTRY, None, Waist(32))
    return Contribution(
        target=target,
        guest=guest.name,
        container="elf",
        startup=payload.startup,
        chain=chain_of(front, guest.back(width), payload, guest, NO_ROUTE),
        companions=(load_blob("bootbuild_baremetal", f"baremetal_post_{width}"),),
    )


def _beside_boot_services(payload: Payload, guest: Guest) -> tuple[Piece, ...]:
    """Front → the guest's back where EFI boot services are alive. Raises RefusedError (BB-L301, BB-L313)."""
    startup = payload.startup
    make = getattr(guest, "boot_services_back", None)
    if make is None or startup.width != 64:
        text = f"guest {guest.name} cannot be entered by a stub while EFI boot services are alive"
        if make is not None:
            text = f"boot services stay alive in 64-bit code, and its startup path is {startup.width}-bit"
        raise RefusedError(Problem(NO_ROUTE, payload.source, text, "leave boot_services out"))
    if startup.vaddr != startup.paddr and startup.vaddr < _UPPER_HALF:
        text = f"{startup.name} is linked at {startup.vaddr:#x} and loaded at {startup.paddr:#x}"
        raise RefusedError(Problem(LOW_LINKED, payload.source, text))
    leaves = Waist(64, owns_paging=False, boot_services=True)
    blob = load_blob("bootbuild_baremetal", "multiboot2_front_efi64")
    return chain_of(Piece(blob, ENTRY_EFI64, None, leaves), make(), payload, guest, NO_ROUTE)


def _native(
    target: str, payload: Payload, guest: Guest, options: Asked, version: own.Version
) -> Contribution:
    """The payload's own header. Raises InputError (BB-L304 to BB-L307, BB-L309, BB-L338) or RefusedError."""
    default = type(options)()
    said = [f.name for f in fields(options) if getattr(options, f.name) != getattr(default, f.name)]
    if said:
        raise RefusedError(Problem(UNREAD, payload.source, f"{', '.join(said)}: the header is the kernel's"))
    if version.find(payload.elf) is None:
        raise own.failure([own.why_none(payload.elf, version)])
    return Contribution(
        target=target,
        guest=guest.name,
        container="elf",
        startup=payload.startup,
        search=version.search,
    )


def _refuse_chain(payload: Payload) -> NoReturn:
    text = "a Multiboot loader leaves nothing undone that a chained stub could do"
    raise RefusedError(Problem(NO_CHAIN, payload.source, text))


def _entry_of(image: ElfImage, version: own.Version) -> int | None:
    try:
        found = version.find(image)
    except (InputError, RefusedError):
        return None
    return None if found is None else own.entry_of(image, found)


class Multiboot2:
    """Adds a 32-bit front stub and a Multiboot2 header that leads to it; if asked, a 64-bit one for UEFI."""

    name = "multiboot2"
    summary = "Multiboot2: GRUB on BIOS and UEFI"
    options = Options2
    rules = RULES

    def contribute(self, payload: Payload, guest: Guest, options: Options2) -> Contribution:
        """The fronts, and a header whose tags name them.

        Raises RefusedError (BB-L301, BB-L313, BB-L336, BB-L337).
        """
        made = _inserted(self.name, payload, guest)
        chains = [made.chain]
        if options.boot_services:
            chains.append(_beside_boot_services(payload, guest))
        words = None
        if options.relocatable:
            words = words_of(payload, guest, UNMOVABLE, GUEST_STAYS)
            chains = [moved.mended(chain) for chain in chains]
        entry, *efi_entry = (AddressOf(chain[0].entry) for chain in chains)
        tags = [headers.request_tag(headers.MEMORY_MAP), Tag(HeaderTag.ENTRY_ADDRESS, address=entry)]
        if options.module_align:
            tags.append(Tag(HeaderTag.MODULE_ALIGN))
        if video := video_mode(options.framebuffer):
            tags.append(headers.framebuffer_tag(video))
        for address in efi_entry:  # a loader that is not UEFI's, or knows neither, has the other entry
            tags.append(Tag(HeaderTag.EFI_BOOT_SERVICES, headers.OPTIONAL))
            tags.append(Tag(HeaderTag.ENTRY_ADDRESS_EFI64, headers.OPTIONAL, address=address))
        if options.relocatable:
            tags.append(moved.tag(payload, options.relocatable))
        return replace(
            made,
            chain=tuple(piece for chain in chains for piece in chain),
            headers=(headers.header_2(tags),),
            search=headers.SEARCH_2,
            addresses=words,
        )

    def native(self, payload: Payload, guest: Guest, options: Options2) -> Contribution:
        """The payload's own Multiboot2 header, as it is."""
        return _native(self.name, payload, guest, options, own.V2)

    def chain(self, payload: Payload, guest: Guest, options: Options2) -> Contribution:
        """There is no such stub."""
        _refuse_chain(payload)

    def entry_of(self, image: ElfImage) -> int | None:
        return _entry_of(image, own.V2)


class Multiboot1:
    """Adds a 32-bit front stub at e_entry, and a Multiboot header by which loaders enter it."""

    name = "multiboot1"
    summary = "Multiboot 1: GRUB, QEMU"
    options = Options1
    rules = RULES

    def contribute(self, payload: Payload, guest: Guest, options: Options1) -> Contribution:
        """The front, and a header. Raises RefusedError (BB-L301)."""
        flags = headers.MEMORY_INFO | (headers.PAGE_ALIGN if options.module_align else 0)
        return replace(
            _inserted(self.name, payload, guest),
            headers=(
                headers.header_1(flags, video_mode(options.framebuffer), ENTRY if options.addresses else ""),
            ),
            search=headers.SEARCH_1,
            entry_point="" if options.addresses else ENTRY,
            elf_class=options.elf_class,
            shadows=_BEFORE_PVH,
        )

    def native(self, payload: Payload, guest: Guest, options: Options1) -> Contribution:
        """The payload's own Multiboot header, as it is."""
        return replace(_native(self.name, payload, guest, options, own.V1), shadows=_BEFORE_PVH)

    def chain(self, payload: Payload, guest: Guest, options: Options1) -> Contribution:
        """There is no such stub."""
        _refuse_chain(payload)

    def entry_of(self, image: ElfImage) -> int | None:
        return _entry_of(image, own.V1)
