"""An image as the monitor reads it: by README.md, not by targets.py, so that no mistake is made in both."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bootbuild.api import ElfImage, InputError, Problem, Rule

LOWEST = 1 << 20  #: below, the monitor's own structures lie

NO_ENTRY = Rule(
    "TOYMON-001",
    "no entry for toymon",
    "toymon enters an image at the address in its note 1 of owner Toymon (README.md); a PVH image at that in "
    "note 18 of owner Xen.",
    'insert an entry with `entry = "insert"`',
)
VERSION = Rule(
    "TOYMON-002",
    "another version of the toymon protocol",
    "Note 2 of owner Toymon says for which version of the protocol the image was made. toymon 1 knows 1.",
    "build the image for version 1, or start it with a newer toymon",
)
TOO_LOW = Rule(
    "TOYMON-003",
    "segment in toymon's own memory",
    "toymon keeps its structures in the first MiB, and loads nothing there.",
    "link the kernel at 1 MiB or above",
)


@dataclass(frozen=True)
class Header:
    """What the notes say."""

    entry: int  #: physical
    memory: int  #: bytes of RAM that the image needs at the least


def read_header(image: ElfImage) -> Header:
    """The image's notes. Raises InputError where toymon refuses the file (TOYMON-001 to -003)."""
    notes = {note.type: note.desc for note in image.notes if note.owner == "Toymon"}
    if len(notes.get(1, b"")) != 4 or len(notes.get(2, b"")) != 8:
        text = "not both a note 1 of 4 bytes and a note 2 of 8 bytes, of owner Toymon"
        raise InputError(Problem(NO_ENTRY, image.name, text))
    (entry,) = struct.unpack("<I", notes[1])
    version, _, megabytes = struct.unpack("<HHI", notes[2])
    if version != 1:
        raise InputError(Problem(VERSION, image.name, f"made for version {version}, this is toymon 1"))
    check_place(image)
    return Header(entry, megabytes << 20)


def check_place(image: ElfImage) -> None:
    """Raise InputError (TOYMON-003) for every segment in the first MiB."""
    problems = [
        Problem(TOO_LOW, image.name, f"segment {segment.physical} begins below {LOWEST:#x}")
        for segment in image.loads
        if segment.paddr < LOWEST
    ]
    if problems:
        raise InputError(problems)
