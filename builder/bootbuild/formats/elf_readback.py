"""Reading an ELF file back with pyelftools: code that shares nothing with what reads or writes it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bootbuild.model.payload import Segment


@dataclass(frozen=True)
class ReadBack:
    """What pyelftools finds in a file."""

    header: Mapping[str, int]  #: e_entry, e_phoff, e_phnum, e_phentsize
    segments: tuple[Segment, ...]
    notes: tuple[tuple[str, int, bytes], ...]  #: owner, type, contents of every PT_NOTE's notes


def read_back(path: Path) -> ReadBack:
    """Read the file at `path`. Raises ValueError in pyelftools' own words."""
    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.enums import ENUM_NOTE_N_TYPE, ENUM_P_TYPE_BASE
    from elftools.elf.segments import NoteSegment

    fields = ("p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
    segments: list[Segment] = []
    notes: list[tuple[str, int, bytes]] = []
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            header = {key: int(elf[key]) for key in ("e_entry", "e_phoff", "e_phnum", "e_phentsize")}
            for segment in elf.iter_segments():
                # A type is a name where pyelftools knows one, else its number.
                kind = segment["p_type"]
                numbers = (ENUM_P_TYPE_BASE.get(kind, kind), *(segment[field] for field in fields))
                segments.append(Segment(*numbers))
                for note in segment.iter_notes() if isinstance(segment, NoteSegment) else ():
                    number = int(ENUM_NOTE_N_TYPE.get(note["n_type"], note["n_type"]))
                    notes.append((str(note["n_name"]), number, bytes(note["n_descdata"])))
    except (ELFError, ConstructError, UnicodeDecodeError, LookupError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return ReadBack(header, tuple(segments), tuple(notes))
