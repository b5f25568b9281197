"""The notes of owner Xen that an image gets: those that the recipe asks for, beside the payload's own."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from bootbuild.api import AddressOf, NoteSpec, Payload, Problem, RefusedError
from bootbuild_xenpv import notes
from bootbuild_xenpv.notes import FEATURE_BITS, M64, PvNotes, contents, number_of, read_notes
from bootbuild_xenpv.options import XEN_3, Options, words
from bootbuild_xenpv.rules import ASKED_NOTES

OWNER = "Xen"
OWN_PAGE = "stub"  #: value of `hypercall_page`: a page that the stubs bring, and use

Contents = bytes | AddressOf


def asked(payload: Payload, options: Options) -> dict[int, Contents]:
    """Contents of each note that `options` names, by type. Raises RefusedError (BB-L210)."""
    found: dict[int, Contents] = {}
    for kind, text in (
        (notes.XEN_VERSION, options.xen_version),
        (notes.GUEST_OS, options.guest_os),
        (notes.GUEST_VERSION, options.guest_version),
        (notes.LOADER, options.loader),
        (notes.PAE_MODE, options.pae_mode),
        (notes.FEATURES, options.features),
    ):
        if text is not None:
            found[kind] = text.encode() + b"\0"
    for kind, number in (
        (notes.VIRT_BASE, options.virt_base),
        (notes.PADDR_OFFSET, options.paddr_offset),
        (notes.INIT_P2M, options.init_p2m),
        (notes.HYPERCALL_PAGE, _page(payload, options.hypercall_page)),
    ):
        if number is not None:
            found[kind] = struct.pack("<Q", number)
    for kind, yes in (
        (notes.MOD_START_PFN, options.mod_start_pfn),
        (notes.SUSPEND_CANCEL, options.suspend_cancel),
    ):
        if yes is not None:
            found[kind] = struct.pack("<I", yes)
    if options.supported_features is not None:
        bits = sum(1 << FEATURE_BITS[name] for name in set(words(options.supported_features)))
        found[notes.SUPPORTED_FEATURES] = struct.pack("<I", bits)
    return found


def _page(payload: Payload, page: int | str | None) -> int | None:
    """Where the page of the payload is; None for none, or one of ours."""
    if not isinstance(page, str) or page == OWN_PAGE:
        return page if isinstance(page, int) else None
    if page not in payload.elf.symbols:
        text = f"hypercall_page is {page!r}, which is no symbol of the payload"
        raise RefusedError(Problem(ASKED_NOTES, payload.source, text))
    return payload.elf.symbols[page]


def beside_own(payload: Payload, wanted: Mapping[int, Contents], rule: str) -> dict[int, Contents]:
    """What of `wanted` is written when the payload's notes of these types are replaced, merged or kept."""
    own = contents(payload.elf)
    if rule == "keep":
        return {kind: desc for kind, desc in wanted.items() if kind not in own}
    if rule == "merge":
        return {
            kind: _joined(kind, own[kind], desc) if kind in own and isinstance(desc, bytes) else desc
            for kind, desc in wanted.items()
        }
    return dict(wanted)


def _joined(kind: int, own: bytes, new: bytes) -> bytes:
    """Both lists of features, a name in both as the recipe has it; of other notes the recipe's value."""
    if kind == notes.SUPPORTED_FEATURES:
        both = int.from_bytes(own, "little") | int.from_bytes(new, "little")
        return both.to_bytes(max(len(own), len(new)), "little")
    if kind != notes.FEATURES:
        return new
    added = words(notes.text_of(new).decode())
    names = {word.removeprefix("!") for word in added}
    kept = [w for w in words(notes.text_of(own).decode("latin-1")) if w.removeprefix("!") not in names]
    return "|".join([*kept, *added]).encode("latin-1") + b"\0"


def specs(written: Mapping[int, Contents]) -> tuple[NoteSpec, ...]:
    """For the container, which drops the payload's own of these types."""
    return tuple(NoteSpec(OWNER, kind, desc) for kind, desc in written.items())


def judged(payload: Payload, written: Mapping[int, Contents], shift: int | None) -> PvNotes:
    """The notes of the image as Xen will read them.

    `shift`: the VA-PA difference at which a stub of ours is to be mapped; its entry is not looked at. Raises
    RefusedError with all that Xen would refuse (BB-L210) or take otherwise (BB-L206, BB-L207).
    """
    kept = {kind: desc for kind, desc in contents(payload.elf).items() if kind not in written}
    found = kept | {kind: desc for kind, desc in written.items() if isinstance(desc, bytes)}
    texts = list(_refused(payload, found, shift))
    if texts:
        raise RefusedError(Problem(ASKED_NOTES, payload.source, text) for text in texts)
    return read_notes(payload.elf, found)


def _refused(payload: Payload, found: Mapping[int, bytes], shift: int | None) -> Iterator[str]:
    """In the order of libelf-dominfo.c: elf_xen_note_check, elf_xen_addr_calc_check."""
    loader, system = (notes.text_of(found.get(kind, b""))[:15] for kind in (notes.LOADER, notes.GUEST_OS))
    if not loader.startswith(b"generic") and not system.startswith(b"linux"):
        names = f"'{loader.decode('latin-1')}' and '{system.decode('latin-1')}'"
        said = f"Will only load images built for the generic loader or Linux images (Not {names})"
        yield f"LOADER is no `generic` and GUEST_OS no `linux`: Xen says `{said}`"
    version = notes.text_of(found.get(notes.XEN_VERSION, b""))[:15]
    if not version.startswith(XEN_3.encode()):
        said = f"Xen will only load images built for Xen v3.0 (Not '{version.decode('latin-1')}')"
        yield f"XEN_VERSION does not begin with `{XEN_3}`: Xen says `{said}`"
    base, offset = number_of(found, notes.VIRT_BASE), number_of(found, notes.PADDR_OFFSET)
    if base is None and offset is not None:
        yield "PADDR_OFFSET without VIRT_BASE: Xen says `ELF_PADDR_OFFSET set, VIRT_BASE unset`"
        return
    base, offset = base or 0, offset or 0
    moved = base - offset & M64
    start = min(segment.paddr for segment in payload.elf.loads) + moved & M64
    end = payload.elf.physical_end + moved & M64
    entry = number_of(found, notes.ENTRY) if notes.ENTRY in found else payload.elf.entry
    assert entry is not None
    placed = f"VIRT_BASE {base:#x} and PADDR_OFFSET {offset:#x} put the kernel at {start:#x} to {end:#x}"
    if start > end or base > start or (shift is None and not start <= entry <= end):
        at = "" if shift is not None else f", its entry is {entry:#x}"
        yield f"{placed}{at}: Xen says `ELF start or entries are out of bounds`"
    elif shift is not None and moved != shift & M64:
        yield f"{placed}, {moved:#x} above p_paddr; the startup path is linked {shift & M64:#x} above it"
    p2m = number_of(found, notes.INIT_P2M)
    if p2m is not None and start <= p2m < end:
        yield f"INIT_P2M {p2m:#x} lies in the kernel: Xen says `P->M table base is out of bounds`"
