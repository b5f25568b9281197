"""Notes on which loaders disagree: what is wrong with a kernel's, and the same notes as all of them read.

The subset (docs/design.md, Images): one PT_NOTE of p_align 4, PHYS32_ENTRY first with 4 or 8 bytes, strings
ended by NUL, no .note.gnu.property. Measured with Xen's libelf, QEMU 7.2 and linux-loader 0.14.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bootbuild.formats.notes import (
    GNU_OWNER,
    NT_GNU_PROPERTY_TYPE_0,
    XEN_OWNER,
    NoteError,
    XenNote,
    parse,
    parse_padded,
    phys32_entry,
    phys32_note,
)
from bootbuild.model.payload import PT_NOTE, ElfImage, Note

STRINGS = frozenset(
    (
        XenNote.XEN_VERSION,
        XenNote.GUEST_OS,
        XenNote.GUEST_VERSION,
        XenNote.LOADER,
        XenNote.PAE_MODE,
        XenNote.FEATURES,
        XenNote.BSD_SYMTAB,
    )
)  #: Xen reads these up to a NUL, whatever their size says (libelf-tools.c elf_strval)


def faults(image: ElfImage) -> tuple[str, ...]:
    """Why loaders disagree about the Xen notes of `image`, each as a clause; nothing without such notes."""
    if not image.xen_notes:
        return ()
    return tuple(dict.fromkeys((*_segment_faults(image), *_note_faults(image))))


def _segment_faults(image: ElfImage) -> Iterator[str]:
    tables = [s for s in image.segments if s.type == PT_NOTE]
    if not any(note.owner == XEN_OWNER for note in image.notes):
        yield "the Xen notes stand in a section only, in no PT_NOTE"
    if len(tables) > 1:
        yield f"there are {len(tables)} PT_NOTEs"
    for s in tables:
        if s.align != 4:
            yield f"a PT_NOTE has p_align {s.align}"
        data = image.content.read(s.offset, s.filesz)
        try:
            as_all_read = parse(data)
        except NoteError:
            as_all_read = ()
        if [(n.owner, n.desc) for n in as_all_read] != [(n.owner, n.desc) for n in parse_padded(data)]:
            yield "notes are padded to 8 bytes"


def _note_faults(image: ElfImage) -> Iterator[str]:
    if any(_is_property(note) for note in image.notes):
        yield "a .note.gnu.property stands beside the Xen notes"
    entry = phys32_note(image.xen_notes)
    if entry is not None:
        count = sum(note.type == XenNote.PHYS32_ENTRY for note in image.xen_notes)
        if count > 1:
            yield f"there are {count} PHYS32_ENTRY notes"
        if len(entry.desc) not in (4, 8):
            yield f"PHYS32_ENTRY has {len(entry.desc)} bytes"
        first = next((note for note in image.notes if note.type == XenNote.PHYS32_ENTRY), entry)
        if first.owner != XEN_OWNER:
            yield f"note {first.type} of owner {first.owner!r} stands before PHYS32_ENTRY"
    for note in image.xen_notes:
        if _unended(note):
            yield f"{XenNote(note.type).name} is not ended by NUL"


def safe_notes(image: ElfImage) -> tuple[Note, ...]:
    """The notes of `image` as all loaders read them; the caller puts them into one PT_NOTE.

    PHYS32_ENTRY comes before all others, also before notes of its type that are not Xen's, which QEMU would
    take for it. One of an odd size says in four bytes what `phys32_entry` makes of it, if that is anything.
    """
    others = (note for note in image.notes if note.owner != XEN_OWNER)
    kept = [
        replace(note, desc=note.desc + b"\0") if _unended(note) else note
        for note in (*image.xen_notes, *others)
        if (note.owner, note.type) != (XEN_OWNER, XenNote.PHYS32_ENTRY) and not _is_property(note)
    ]
    entry, address = phys32_note(image.xen_notes), phys32_entry(image, repaired=True)
    if entry is None or address is None:
        return tuple(kept)
    if len(entry.desc) not in (4, 8):
        entry = replace(entry, desc=address.to_bytes(4, "little"))
    return (entry, *kept)


def _is_property(note: Note) -> bool:
    return (note.owner, note.type) == (GNU_OWNER, NT_GNU_PROPERTY_TYPE_0)


def _unended(note: Note) -> bool:
    """Whether Xen would read on into the next note; the padding of an odd size ends a string as well."""
    text = note.owner == XEN_OWNER and note.type in STRINGS
    return text and b"\0" not in note.desc and len(note.desc) % 4 == 0
