"""The one PT_NOTE of an image: whose notes go in, which give way, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from bootbuild.containers import rules
from bootbuild.errors import Problem, RefusedError
from bootbuild.formats.notes import (
    CLAIM_OWNER,
    XEN_OWNER,
    ImageClaim,
    NoteError,
    XenNote,
    pack,
)
from bootbuild.formats.repair import safe_notes
from bootbuild.model.contribution import AddressOf, Contribution, NoteSpec
from bootbuild.model.payload import Note, Payload
from bootbuild.model.span import Span
from bootbuild.stubs.link import Linked


def merge(
    payload: Payload,
    contributions: Sequence[Contribution],
    linked: Mapping[str, Linked],
    stub: Span,
) -> bytes:
    """Bytes of the new PT_NOTE; `linked` by target. Raises RefusedError (BB-W005).

    Order: PHYS32_ENTRY, the other Xen notes of the contributions, the payload's own Xen notes whose type
    nobody replaced, other owners', then what the image claims to be.
    """
    new: list[Note] = []
    problems: list[Problem] = []
    claims: list[Note] = []
    for c in contributions:
        exports = linked[c.target].exports if c.target in linked else {}
        for spec in c.notes:
            try:
                new.append(_note(spec, exports))
            except NoteError as error:
                text = f"note {spec.type} of owner {spec.owner}: {error}"
                problems.append(Problem(rules.NOTE_CONTENTS, f"{payload.source}: {c.target}", text))
        try:
            own = stub if c.hands_over else Span(0, 0)
            claims.append(ImageClaim(c.target, c.guest, c.startup, own).pack())
        except NoteError as error:
            problems.append(Problem(rules.NOTE_CONTENTS, f"{payload.source}: {c.target}", str(error)))
    if problems:
        raise RefusedError(problems)
    replaced = {(note.owner, note.type) for note in new}
    kept = [note for note in safe_notes(payload.elf) if _stays(note, replaced)]
    notes = sorted([*new, *kept], key=_rank)  # stable: order within a rank stays
    return pack([*notes, *claims])


def _note(spec: NoteSpec, exports: Mapping[str, int]) -> Note:
    """The note with its contents resolved. Raises NoteError."""
    if not (spec.owner.isascii() and spec.owner.isprintable()) or not 0 <= spec.type < 1 << 32:
        raise NoteError("the owner is not printable ASCII, or the type not 32 bits")
    if not isinstance(spec.desc, AddressOf):
        return Note(spec.owner, spec.type, spec.desc)
    address = exports.get(spec.desc.symbol)
    if address is None:
        raise NoteError(f"no stub exports {spec.desc.symbol}")
    if spec.desc.size not in (4, 8):
        raise NoteError(f"an address of {spec.desc.size} bytes")
    address = address + spec.desc.offset & (1 << 64) - 1
    return Note(spec.owner, spec.type, address.to_bytes(spec.desc.size, "little"))


def _stays(note: Note, replaced: AbstractSet[tuple[str, int]]) -> bool:
    """Whether a note of the payload goes into the image."""
    if (note.owner, note.type) in replaced or note.owner == CLAIM_OWNER:
        return False
    # Our entry is linked at an absolute address: Xen may not move it (libelf, XEN_ELFNOTE_PHYS32_RELOC).
    ours = (XEN_OWNER, XenNote.PHYS32_ENTRY) in replaced
    return not (ours and (note.owner, note.type) == (XEN_OWNER, XenNote.PHYS32_RELOC))


def _rank(note: Note) -> int:
    if note.owner != XEN_OWNER:
        return 2
    return 0 if note.type == XenNote.PHYS32_ENTRY else 1
