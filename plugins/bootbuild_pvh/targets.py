"""Target `pvh`: an image that is entered at the address in its XEN_ELFNOTE_PHYS32_ENTRY note."""

from __future__ import annotations

from bootbuild.api import (
    AddressOf,
    Contribution,
    ElfImage,
    Guest,
    NoteSpec,
    Payload,
    Piece,
    Problem,
    RefusedError,
    Rule,
    Waist,
    chain_of,
    load_blob,
    phys32_entry,
)

PHYS32_ENTRY = 18  #: XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h

NO_ENTRY = Rule(
    "BB-L001",
    "no PVH entry note",
    "A PVH loader enters an ELF file at the physical address in its note 18 (PHYS32_ENTRY) of owner Xen, "
    "in a PT_NOTE segment. Without it QEMU says `Error loading uncompressed kernel without PVH ELF Note`, "
    "Xen refuses the image, and others fall back to a boot that was not asked for.",
    'insert an entry with `entry = "insert"`, or build the kernel with CONFIG_PVH',
)
NO_ROUTE = Rule(
    "BB-L002",
    "no way from this target to this guest",
    "A front stub leaves the machine in one state, the guest's back stub needs another, and no switch leads "
    "from the one to the other. Computed from what both declare.",
    "choose another guest protocol, width or target",
)


def _own_entry(payload: Payload) -> int:
    """The payload's own entry, as it will be once its note is repaired. Raises RefusedError."""
    entry = phys32_entry(payload.elf, repaired=payload.repair)
    if entry is None:
        raise RefusedError(Problem(NO_ENTRY, payload.source, "the payload has no PVH entry of its own"))
    return entry


class Pvh:
    """Adds a 32-bit front stub and the one note that PVH needs."""

    name = "pvh"
    summary = "PVH (HVMlite): Xen, QEMU, Firecracker, Cloud Hypervisor"
    options = None
    rules = (NO_ENTRY, NO_ROUTE)

    def contribute(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        """Front → (switch) → the guest's back; the post stub in the width of the startup path."""
        width = payload.startup.width
        front = Piece(load_blob("bootbuild_pvh", "pvh_front"), "bb_pvh_entry", None, Waist(32))
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            startup=payload.startup,
            chain=chain_of(front, guest.back(width), payload, guest, NO_ROUTE),
            companions=(load_blob("bootbuild_pvh", f"pvh_post_{width}"),),
            notes=(NoteSpec("Xen", PHYS32_ENTRY, AddressOf("bb_pvh_entry")),),
        )

    def native(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        """The payload's own PVH entry, as it is."""
        _own_entry(payload)
        return Contribution(target=self.name, guest=guest.name, container="elf", startup=payload.startup)

    def chain(self, payload: Payload, guest: Guest, options: None) -> Contribution:
        """A stub that clears the payload's .bss, which linux-loader does not, before its own PVH entry."""
        stub = Piece(load_blob("bootbuild_pvh", "pvh_chain"), "bb_pvh_chain", None, None)
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            startup=payload.startup,
            chain=(stub,),
            notes=(NoteSpec("Xen", PHYS32_ENTRY, AddressOf("bb_pvh_chain")),),
            own_entry=_own_entry(payload),
        )

    def entry_of(self, image: ElfImage) -> int | None:
        return phys32_entry(image)
