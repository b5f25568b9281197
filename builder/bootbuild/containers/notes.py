"""The one PT_NOTE of an image: whose notes go in, which give way, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bootbuild.containers import rules
from bootbuild.errors import Problem, RefusedError
from bootbuild.formats.notes import (
    CLAIM_OWNER,
    GNU_OWNER,
    NT_GNU_PROPERTY_TYPE_0,
    XEN_OWNER,
    ImageClaim,
    XenNote,
    pack,
)
from bootbuild.model.contribution import AddressOf, Contribution
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
    for contribution in contributions:
        for spec in contribution.notes if contribution.chain else ():
            desc = spec.desc
            if isinstance(desc, AddressOf):
                address = linked[contribution.target].exports.get(desc.symbol)
                if address is None:
                    where = f"{payload.source}: {contribution.target}"
                    text = f"note {spec.type} of owner {spec.owner} refers to {desc.symbol}"
                    problems.append(Problem(rules.NOTE_SYMBOL, where, text))
                    continue
                desc = address.to_bytes(desc.size, "little")
            new.append(Note(spec.owner, spec.type, desc))
    if problems:
        raise RefusedError(problems)
    kept = [note for note in payload.elf.notes if _stays(note, new)]
    notes = sorted([*new, *kept], key=_rank)  # stable: order within a rank stays
    claims = [
        ImageClaim(c.target, c.guest, c.startup, stub if c.chain else Span(0, 0)).pack()
        for c in contributions
    ]
    return pack([*notes, *claims])


def _stays(note: Note, new: Sequence[Note]) -> bool:
    replaced = {(n.owner, n.type) for n in new}
    if (note.owner, note.type) in replaced or note.owner == CLAIM_OWNER:
        return False
    if (note.owner, note.type) == (GNU_OWNER, NT_GNU_PROPERTY_TYPE_0):
        return False
    # Our entry is linked at an absolute address: Xen may not move it (libelf, XEN_ELFNOTE_PHYS32_RELOC).
    ours = (XEN_OWNER, XenNote.PHYS32_ENTRY) in replaced
    return not (ours and (note.owner, note.type) == (XEN_OWNER, XenNote.PHYS32_RELOC))


def _rank(note: Note) -> int:
    if note.owner != XEN_OWNER:
        return 2
    return 0 if note.type == XenNote.PHYS32_ENTRY else 1
