"""Target `xen-pv`: an image that Xen starts in ring 3, by the notes of owner Xen."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from bootbuild.api import (
    AddressOf,
    Contribution,
    ElfImage,
    Guest,
    InputError,
    NoRoute,
    NoteSpec,
    Payload,
    Piece,
    Problem,
    RefusedError,
    Waist,
    load_blob,
    route,
    switches,
)
from bootbuild_xenpv import notes
from bootbuild_xenpv.notes import physical_entry, read_notes
from bootbuild_xenpv.rules import NO_ENTRY, NO_ROUTE, OWN_NOTES, RULES

OWNER = "Xen"
_RING_3 = Waist(64, privilege=3, owns_paging=False)
_FEATURE_DOM0 = 1 << 11  #: XENFEAT_dom0: what is not said of note 17 (SUPPORTED_FEATURES), dom0 is refused
# xen/include/public/features.h; elf_xen_feature_names knows these alone
_FEATURES = (
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "hvm_callback_vector",
    "dom0",
)


@dataclass(frozen=True)
class Options:
    """What a recipe may say under `[targets.xen-pv]` of the notes that an inserted entry brings."""

    guest_os: str = "bootbuild"  #: note 6
    guest_version: str = ""  #: note 7; empty: none
    suspend_cancel: bool = False  #: note 14
    dom0: bool = True  #: whether note 17 says that it can be dom0
    features: str = ""  #: note 10, separated by |, required ones with a ! before them; empty: none
    init_p2m: int = 0  #: note 15: where the frame table is to be mapped; 0: behind the kernel

    def __post_init__(self) -> None:
        for word in self.features.split("|") if self.features else ():
            if word.removeprefix("!") not in _FEATURES:
                text = "Xen refuses the image without a word" if word.startswith("!") else "Xen ignores it"
                raise ValueError(f"features has {word!r}, of which {text}; known are {', '.join(_FEATURES)}")
        if self.init_p2m % 4096 or not 0 <= self.init_p2m < 1 << 64:
            raise ValueError(f"init_p2m is {self.init_p2m:#x}, no multiple of 4096 in 64 bits")
        for name in ("guest_os", "guest_version"):
            text = getattr(self, name)
            if len(text) > 15 or not text.isascii():  # char guest_os[16], struct elf_dom_parms
                raise ValueError(f"{name} is {text!r}, not ASCII of at most 15 characters")


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
        try:
            chain = route(front, _back(payload, guest), switches())
        except NoRoute as reason:
            raise RefusedError(Problem(NO_ROUTE, payload.source, str(reason))) from reason
        if payload.startup.vaddr != payload.startup.address:
            text = f"guest {guest.name} is entered at its physical address, and Xen maps none"
            raise RefusedError(Problem(NO_ROUTE, payload.source, text))
        return Contribution(
            target=self.name,
            guest=guest.name,
            container="elf",
            startup=payload.startup,
            chain=chain,
            companions=(load_blob("bootbuild_xenpv", "xenpv_post"),),
            notes=_notes(payload, options),
        )

    def native(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """The payload's own PV entry, as it is."""
        _own_notes(payload, options)
        return Contribution(target=self.name, guest=guest.name, container="elf", startup=payload.startup)

    def chain(self, payload: Payload, guest: Guest, options: Options) -> Contribution:
        """A stub that looks at start_info, and restores everything, before the payload's own entry."""
        own = _own_notes(payload, options)
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
            startup=payload.startup,
            chain=(stub,),
            notes=(_entry_note(payload, "bb_pv_chain"),),
            own_entry=at,
        )

    def entry_of(self, image: ElfImage) -> int | None:
        return physical_entry(image)


def _back(payload: Payload, guest: Guest) -> Piece:
    """The guest's back for ring 3. Raises RefusedError: of what runs there, only the kernel itself knows."""
    make = getattr(guest, "ring3_back", None)
    if make is None:
        text = f"guest {guest.name} cannot be entered in ring 3 by a stub"
        raise RefusedError(
            Problem(NO_ROUTE, payload.source, text, 'use the kernel\'s own PV entry (`entry = "native"`)')
        )
    if payload.startup.width != 64:
        text = f"its startup path is {payload.startup.width}-bit code, and Xen enters 64-bit code"
        raise RefusedError(Problem(NO_ROUTE, payload.source, text))
    back = make()
    assert isinstance(back, Piece)
    return back


def _own_notes(payload: Payload, options: Options) -> notes.PvNotes:
    if options != Options():
        text = f"the notes of its own entry stand, and {options} asks for others"
        raise RefusedError(Problem(OWN_NOTES, payload.source, text))
    try:
        return read_notes(payload.elf)
    except InputError as reason:
        raise RefusedError(reason.problems) from None


def _shift(payload: Payload) -> int:
    """What the startup path's segment is linked at less where it is loaded."""
    return payload.startup.vaddr - payload.startup.paddr


def _entry_note(payload: Payload, symbol: str) -> NoteSpec:
    return NoteSpec(OWNER, notes.ENTRY, AddressOf(symbol, 8, _shift(payload)))


def _notes(payload: Payload, options: Options) -> tuple[NoteSpec, ...]:
    """One of each that a builder looks at, so that none of the payload's own stays to contradict it."""

    def text(kind: int, value: str) -> NoteSpec:
        return NoteSpec(OWNER, kind, value.encode() + b"\0")

    def number(kind: int, value: int, form: Literal["<I", "<Q"] = "<Q") -> NoteSpec:
        return NoteSpec(OWNER, kind, struct.pack(form, value))

    own = {note.type for note in payload.elf.xen_notes}
    found = [
        text(notes.GUEST_OS, options.guest_os),
        text(notes.XEN_VERSION, "xen-3.0"),
        text(notes.LOADER, "generic"),
        number(notes.VIRT_BASE, _shift(payload) & (1 << 64) - 1),
        number(notes.PADDR_OFFSET, 0),
        _entry_note(payload, "bb_pv_entry"),
    ]
    if options.guest_version:
        found.append(text(notes.GUEST_VERSION, options.guest_version))
    if options.suspend_cancel:
        found.append(number(notes.SUSPEND_CANCEL, 1, "<I"))
    if options.dom0:
        found.append(number(notes.SUPPORTED_FEATURES, _FEATURE_DOM0, "<I"))
    if options.features:
        found.append(text(notes.FEATURES, options.features))
    if options.init_p2m:
        found.append(number(notes.INIT_P2M, options.init_p2m))
    if notes.MOD_START_PFN in own:
        found.append(number(notes.MOD_START_PFN, 0, "<I"))  # the front wants its module mapped
    return tuple(found)
