"""Target `xen-pv`: an image that Xen starts in ring 3, by the notes of owner Xen."""

from __future__ import annotations

from dataclasses import replace

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
    Waist,
    chain_of,
    load_blob,
)
from bootbuild_xenpv import notes
from bootbuild_xenpv.asked import OWN_PAGE, Contents, asked, beside_own, judged, specs
from bootbuild_xenpv.notes import M64, PvNotes, physical_entry, read_notes
from bootbuild_xenpv.options import INSERTED, Options
from bootbuild_xenpv.rules import ASKED_NOTES, NO_ENTRY, NO_ROUTE, RULES
from bootbuild_xenpv.settings import HYPERCALL_PAGE, settings

_RING_3 = Waist(64, privilege=3, owns_paging=False)
_OWN_ENTRY = 'use the kernel\'s own PV entry (`entry = "native"`)'
_NO_ENTRY = "leave `[targets.xen-pv]` out: this kernel has no PV entry of its own either"


class XenPv:
    """Adds a front stub in ring 3 and the notes that a PV domain needs."""

    name = "xen-pv"
    summary = "Xen PV: a domain in ring 3, without hardware virtualisation"
    options = Options
    linux_startup = "x86_64_start_reservations"  #: xen_start_kernel goes there, arch/x86/xen/enlighten_pv.c
    rules = RULES

    def contribute(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """Front → the guest's back for ring 3. Raises RefusedError (BB-L205)."""
        front = Piece(load_blob("bootbuild_xenpv", "xenpv_front"), "bb_pv_entry", None, _RING_3)
        chain = chain_of(front, _back(payload, guest), payload, guest, NO_ROUTE)
        if payload.startup.vaddr != payload.startup.address:
            text = f"guest {guest.name} is entered at its physical address, and Xen maps none"
            raise RefusedError(Problem(NO_ROUTE, payload.source, text))
        written, read = _inserted(payload, options)
        told = settings(
            paddr_offset=read.paddr_offset,
            hypercalls=isinstance(written.get(notes.HYPERCALL_PAGE), AddressOf),
            unmapped=sum(module.content.size for module in payload.modules) if read.mod_start_pfn else None,
        )
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            elf_class=64,
            startup=payload.startup,
            chain=chain,
            companions=(load_blob("bootbuild_xenpv", "xenpv_post"), told),
            notes=specs(written),
        )

    def native(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """The payload's own PV entry, as it is."""
        written, _ = _own(payload, options, None)
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            elf_class=64,
            startup=payload.startup,
            notes=specs(written),
        )

    def chain(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """A stub that looks at start_info, and restores everything, before the payload's own entry."""
        written, own = _own(payload, options, _shift(payload))
        at = own.entry - own.virt_base + own.paddr_offset
        segment = next((s for s in payload.elf.loads if at in s.physical), None)
        if (
            segment is None
            or segment.vaddr - segment.paddr != _shift(payload)
            or own.entry != at + _shift(payload)
        ):
            text = f"the PV entry {own.entry:#x} is not in the startup path's own mapping"
            raise RefusedError(Problem(NO_ENTRY, payload.source, text))
        stub = Piece(load_blob("bootbuild_xenpv", "xenpv_chain"), "bb_pv_chain", None, None)
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            elf_class=64,
            startup=payload.startup,
            chain=(stub,),
            companions=(settings(paddr_offset=own.paddr_offset),),
            notes=specs(written | _entry(payload, "bb_pv_chain")),
            own_entry=at,
        )

    def entry_of(self, image: ElfImage) -> int | None:
        return physical_entry(image)


def _back(payload: Payload, guest: Guest) -> Piece:
    """The guest's back for ring 3. Raises RefusedError: of what runs there, only the kernel itself knows."""
    make = getattr(guest, "ring3_back", None)
    if make is None:
        text = f"guest {guest.name} cannot be entered in ring 3 by a stub"
        has_entry = physical_entry(payload.elf) is not None
        remedy = _OWN_ENTRY if has_entry else _NO_ENTRY
        raise RefusedError(Problem(NO_ROUTE, payload.source, text, remedy))
    if payload.startup.width != 64:
        text = f"its startup path is {payload.startup.width}-bit code, and Xen enters 64-bit code"
        raise RefusedError(Problem(NO_ROUTE, payload.source, text, "name 64-bit code, or use target pvh"))
    back = make()
    assert isinstance(back, Piece)
    return back


def _own(payload: Payload, options: Options, shift: int | None) -> tuple[dict[int, Contents], PvNotes]:
    """What is written beside a kernel's own entry, and how Xen reads the kernel with it.

    `shift`: at which a stub is to be mapped, or None. Raises RefusedError (BB-L201 to BB-L210).
    """
    try:
        own = read_notes(payload.elf) if options.silent else None
        if options.hypercall_page == OWN_PAGE:
            text = "hypercall_page is `stub`, but with its own entry the kernel alone knows which it calls"
            raise RefusedError(Problem(ASKED_NOTES, payload.source, text))
        written = beside_own(payload, asked(payload, options), options.notes)
        return written, own or judged(payload, written, shift)
    except InputError as reason:
        raise RefusedError(reason.problems) from None


def _shift(payload: Payload) -> int:
    """What the startup path's segment is linked at less where it is loaded."""
    return payload.startup.vaddr - payload.startup.paddr


def _entry(payload: Payload, symbol: str) -> dict[int, Contents]:
    return {notes.ENTRY: AddressOf(symbol, 8, _shift(payload))}


def _inserted(payload: Payload, options: Options) -> tuple[dict[int, Contents], PvNotes]:
    """The notes of an inserted entry, and how Xen reads them. Raises RefusedError (BB-L204 to BB-L210)."""
    shift = _shift(payload)
    base, offset = options.virt_base, options.paddr_offset
    if base is None:
        base = shift + (offset or 0) & M64
    if offset is None:
        offset = base - shift & M64
    wanted = asked(payload, replace(options.over(INSERTED), virt_base=base, paddr_offset=offset))
    if options.hypercall_page == OWN_PAGE:
        wanted[notes.HYPERCALL_PAGE] = AddressOf(HYPERCALL_PAGE, 8, shift)
    written = beside_own(payload, wanted, options.notes)
    written |= _entry(payload, "bb_pv_entry")
    try:
        return written, judged(payload, written, shift)
    except InputError as reason:
        raise RefusedError(reason.problems) from None
