"""ELF notes: their bytes, Xen's types, and the note in which an image says what it is."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.model.payload import ElfImage, Note, Startup
from bootbuild.model.span import Span, align_up

HEADER = struct.Struct("<III")  #: namesz, descsz, type (gABI chapter 5, Note Section)
MAX_NOTES = 65536  #: more and Xen gives the file up (libelf-dominfo.c elf_xen_parse_notes)

XEN_OWNER = "Xen"
GNU_OWNER = "GNU"
NT_GNU_PROPERTY_TYPE_0 = 5  #: Linux Extensions to gABI; padded to 8: no place in a p_align of 4


class XenNote(IntEnum):
    """Note types of owner `Xen`: xen/include/public/elfnote.h."""

    INFO = 0
    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11
    HV_START_LOW = 12
    L1_MFN_VALID = 13
    SUSPEND_CANCEL = 14
    INIT_P2M = 15
    MOD_START_PFN = 16
    SUPPORTED_FEATURES = 17
    PHYS32_ENTRY = 18
    PHYS32_RELOC = 19


class NoteError(ValueError):
    """Bytes that are not notes; the text says where (offset in the bytes) and why."""


def parse(data: bytes, offset: int = 0, align: int = 4) -> tuple[Note, ...]:
    """The notes in `data`, which lies at file offset `offset`. Raises NoteError.

    Names and contents are padded to `align` bytes: 4, as every x86 loader reads them whatever p_align
    says (Xen libelf elf_note_next), or 8, as the gABI has it for p_align 8.
    """
    notes: list[Note] = []
    at = 0
    while len(data) - at >= HEADER.size:
        namesz, descsz, type_ = HEADER.unpack_from(data, at)
        desc = align_up(at + HEADER.size + namesz, align)
        if at + HEADER.size + namesz > len(data):
            raise NoteError(f"note at {at:#x}: its name of {namesz:#x} bytes runs over the segment")
        if descsz and desc + descsz > len(data):
            raise NoteError(f"note at {at:#x}: its contents of {descsz:#x} bytes run over the segment")
        if len(notes) == MAX_NOTES:
            raise NoteError(f"more than {MAX_NOTES} notes")
        owner = data[at + HEADER.size : at + HEADER.size + namesz].split(b"\0")[0].decode("latin-1")
        notes.append(Note(owner, type_, data[desc : desc + descsz], offset + at, offset + desc))
        at = align_up(desc + descsz, align)
    if any(data[at:]):
        raise NoteError(f"{len(data) - at} bytes at {at:#x} are too few for a note")
    return tuple(notes)


def parse_padded(data: bytes, offset: int = 0) -> tuple[Note, ...]:
    """The notes in `data` by whichever padding makes sense of them; the text is about 4 if none does.

    p_align does not tell: linkers merge a .note.gnu.property padded to 8 with notes padded to 4.
    """
    try:
        notes = parse(data, offset)
    except NoteError:
        with suppress(NoteError):
            return parse(data, offset, 8)
        raise
    if not all(note.owner.isprintable() and note.owner for note in notes):
        with suppress(NoteError):
            wide = parse(data, offset, 8)
            if all(note.owner.isprintable() and note.owner for note in wide):
                return wide
    return notes


def pack(notes: Iterable[Note]) -> bytes:
    """Bytes of the notes, each padded to 4: the form on which all loaders agree (p_align 4)."""
    out = bytearray()
    for note in notes:
        owner = note.owner.encode("latin-1") + b"\0"
        out += HEADER.pack(len(owner), len(note.desc), note.type)
        out += owner.ljust(align_up(len(owner), 4), b"\0")
        out += note.desc.ljust(align_up(len(note.desc), 4), b"\0")
    return bytes(out)


CLAIM_OWNER = "bootbuild"
CLAIM_TYPE = 1  #: not 18: QEMU takes any owner's type 18 for PHYS32_ENTRY (elf_ops.h.inc)
CLAIM_VERSION = 1
#: version, width, startup vaddr, startup paddr, load offset, stub start, stub size
_CLAIM = struct.Struct("<II5Q")
_WORD = re.compile(r"[a-z0-9][a-z0-9.@_-]{0,62}")
_SYMBOL = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True)
class ImageClaim:
    """What bootbuild says of an image that it made, one for each target: a claim, to be proved by a boot."""

    target: str
    guest: str
    startup: Startup
    stub: Span  #: physical; what the guest keeps until it is done with the record

    def pack(self) -> Note:
        """The note of owner `bootbuild`, type 1. Raises NoteError for a target or guest that is no word.

        A startup name that is not printable ASCII is written as its address.
        """
        startup = self.startup
        if not (_WORD.fullmatch(self.target) and _WORD.fullmatch(self.guest)):
            raise NoteError(f"target {self.target!r} or guest {self.guest!r} is not a word of a-z0-9.@_-")
        name = startup.name if _SYMBOL.fullmatch(startup.name) else f"{startup.vaddr:#x}"
        path = startup.width, startup.vaddr, startup.paddr, startup.load_offset
        fixed = _CLAIM.pack(CLAIM_VERSION, *path, self.stub.start, self.stub.size)
        names = f"{self.target}\0{self.guest}\0{name}\0".encode("ascii")
        desc = fixed + names
        return Note(CLAIM_OWNER, CLAIM_TYPE, desc.ljust(align_up(len(desc), 4), b"\0"))

    @classmethod
    def parse(cls, note: Note) -> ImageClaim:
        """Read `pack`'s note. Raises NoteError for anything but its exact form."""
        if len(note.desc) < _CLAIM.size:
            raise NoteError(f"{len(note.desc)} bytes are too few")
        version, width, vaddr, paddr, load_offset, start, size = _CLAIM.unpack_from(note.desc)
        if version != CLAIM_VERSION:
            raise NoteError(f"version {version} is not known; this bootbuild knows {CLAIM_VERSION}")
        if width not in (32, 64):
            raise NoteError(f"width {width} is neither 32 nor 64")
        try:
            names = note.desc[_CLAIM.size :].decode("ascii").split("\0")
        except UnicodeDecodeError:
            raise NoteError("a name is not ASCII") from None
        patterns = (_WORD, _WORD, _SYMBOL)
        if len(names) < 4 or not all(p.fullmatch(n) for p, n in zip(patterns, names, strict=False)):
            raise NoteError("target, guest and startup are not three names, each ended by NUL")
        startup = Startup(names[2], vaddr, paddr, width, load_offset=load_offset)
        claim = cls(names[0], names[1], startup, Span(start, size))
        if claim.pack().desc != note.desc:
            raise NoteError("bytes follow the three names")
        return claim


def claims(image: ElfImage) -> tuple[ImageClaim, ...]:
    """The claims in an image, in file order. Raises InputError (BB-E018) for every malformed one."""
    found: list[ImageClaim] = []
    problems: list[Problem] = []
    for note in image.notes:
        if (note.owner, note.type) != (CLAIM_OWNER, CLAIM_TYPE):
            continue
        try:
            found.append(ImageClaim.parse(note))
        except NoteError as error:
            problems.append(Problem(rules.NOTE_CLAIM, f"{image.name}@{note.offset:#x}", str(error)))
    if problems:
        raise InputError(problems)
    return tuple(found)


def phys32_note(notes: Sequence[Note]) -> Note | None:
    """The PHYS32_ENTRY that counts: of several of owner Xen the last.

    So it is in Xen, whose note it is: each takes the place of the one before (libelf-dominfo.c). linux-loader
    takes the first of owner Xen, QEMU the first note of type 18, whoever owns it (elf_ops.h.inc): only where
    one stands before all others do they agree (`formats/repair.py`).
    """
    found = [note for note in notes if (note.owner, note.type) == (XEN_OWNER, XenNote.PHYS32_ENTRY)]
    return found[-1] if found else None


def claims_target(image: ElfImage, target: str) -> bool:
    """Whether the image says that it was made for `target`; a malformed claim says nothing."""
    with suppress(InputError):
        return any(claim.target == target for claim in claims(image))
    return False


def phys32_entry(image: ElfImage, *, repaired: bool = False) -> int | None:
    """Physical PVH entry of `image`; None where no note says it. The only reading of that note here.

    Contents of 1, 2, 4 or 8 bytes are a number, of which the low 32 bits count (libelf elf_note_numeric, into
    a u32). Any other size is none for Xen; QEMU and linux-loader read the first four bytes of it, and so does
    everybody once the note is `repaired`.
    """
    note = phys32_note(image.xen_notes)
    if note is None:
        return None
    if len(note.desc) in (1, 2, 4, 8):
        return int.from_bytes(note.desc, "little") & 0xFFFFFFFF
    return int.from_bytes(note.desc[:4], "little") if repaired and len(note.desc) > 4 else None
