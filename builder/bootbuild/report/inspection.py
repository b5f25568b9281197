"""What `bootbuild inspect` shows: what can start a file, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootbuild.api.target import entry_base
from bootbuild.formats.whole import whole_files
from bootbuild.host import Host
from bootbuild.model.content import Content
from bootbuild.model.payload import PF_R, PF_W, PF_X, ElfImage, Note, Segment
from bootbuild.report.json_form import dump, hexadecimal
from bootbuild.report.table import plain, printable, table

INSPECT = "bootbuild/inspect/1"
SHOWN_DESC = 24  #: bytes of a note's contents that are shown as hex

#: p_type as readelf names it: gABI, and those of GNU ld (glibc's elf.h)
_SEGMENTS = {
    0: "NULL",
    1: "LOAD",
    2: "DYNAMIC",
    3: "INTERP",
    4: "NOTE",
    6: "PHDR",
    7: "TLS",
    0x6474E550: "GNU_EH_FRAME",
    0x6474E551: "GNU_STACK",
    0x6474E552: "GNU_RELRO",
    0x6474E553: "GNU_PROPERTY",
}
_MACHINES = {3: "386", 62: "x86-64"}
# Xen notes with text, and those with several numbers, by the bytes of each: xen/include/public/elfnote.h
_STRINGS = (0, 5, 6, 7, 8, 9, 10, 11)
_ARRAYS = {13: 8, 17: 4, 19: 4}


@dataclass(frozen=True)
class Inspection:
    """One file."""

    path: str
    format: str  #: "elf", "bzimage (lz4)", "efi application"
    size: int  #: of the file, bytes
    digest: str  #: SHA-256, hex
    elf: ElfImage  #: the file, or what is packed in it
    entries: dict[str, int | None]  #: target → address; None: it cannot start this file
    bases: dict[str, str]  #: target → from where its entry is counted; none: it is physical
    claims: tuple[dict[str, Any], ...]  #: bootbuild's own records in the image
    symbols: int  #: how many names have an address
    symbols_from: str  #: ".symtab", "kallsyms"; "" when there are none
    setup: dict[str, int] = field(default_factory=dict)  #: setup header of a bzImage
    carried: dict[str, Any] | None = None  #: what an application hands to its kernel


@whole_files()
def inspect(path: Path, host: Host) -> Inspection:
    """Read the file. Raises InputError for what is no kernel."""
    from bootbuild.formats import bzimage
    from bootbuild.formats.application import FORMAT
    from bootbuild.formats.notes import claims
    from bootbuild.formats.payload import open_content, read_payload
    from bootbuild.formats.symbols import origin
    from bootbuild.model.content import digest

    targets = {name: host.target(name) for name in host.names("target")}
    content = open_content(path)
    elf, form = read_payload(content, str(path))
    return Inspection(
        path=str(path),
        format=form,
        size=content.size,
        digest=digest(content),
        elf=elf,
        entries={name: target.entry_of(elf) for name, target in targets.items()},
        bases={name: base for name, target in targets.items() if (base := entry_base(target))},
        claims=tuple(
            {
                "target": claim.target,
                "guest": claim.guest,
                "startup": claim.startup.name,
                "vaddr": hexadecimal(claim.startup.vaddr),
                "paddr": hexadecimal(claim.startup.paddr),
                "width": claim.startup.width,
                "stub": str(claim.stub) if claim.stub.size else None,
            }
            for claim in claims(elf)
        ),
        symbols=len(elf.symbols),
        symbols_from=origin(elf.symbols),
        setup=dict(bzimage.header(content)) if form.startswith("bzimage") else {},
        carried=_carried(content) if form == FORMAT else None,
    )


def _carried(content: Content) -> dict[str, Any]:
    """Command line and modules in an application."""
    from bootbuild.formats.application import carried
    from bootbuild.model.content import digest

    cmdline, modules = carried(content)
    return {
        "cmdline": cmdline.decode("utf-8", "backslashreplace"),
        "modules": [
            {
                "size": module.size,
                "sha256": digest(module),
                "cmdline": text.decode("utf-8", "backslashreplace"),
            }
            for _, module, text in modules
        ],
    }


def _entry(found: Inspection, target: str) -> str:
    entry, base = found.entries[target], found.bases.get(target)
    if entry is None:
        return "-"
    return f"{base} + {entry:#x}" if base else f"{entry:#x}"


def as_text(found: Inspection) -> str:
    """For people."""
    elf = found.elf
    machine = _MACHINES.get(elf.machine, str(elf.machine))
    text = f"{printable(found.path)}: {found.format}, {found.size} bytes\nsha256 {found.digest}\n"
    text += f"ELF{elf.bits} {machine}, e_type {elf.type}, e_entry {elf.entry:#x}\n"
    text += f"symbols: {f'{found.symbols} from {found.symbols_from}' if found.symbols else 'none'}\n\n"
    rows = [(name, _entry(found, name)) for name in sorted(found.entries)]
    text += plain(table(("TARGET", "ENTRY (physical)"), rows)) + "\n"
    for claim in found.claims:
        text += (
            f"bootbuild: made for {claim['target']}, guest {claim['guest']}, starts at {claim['startup']} "
            f"({claim['vaddr']}, physical {claim['paddr']}, {claim['width']} bit), "
            f"stub {claim['stub'] or '-'}\n"
        )
    if found.carried:
        text += _shown(found.carried) + "\n"
    head = ("SEGMENT", "FLAGS", "OFFSET", "VADDR", "PADDR", "FILESZ", "MEMSZ", "ALIGN")
    text += plain(table(head, [_segment(segment) for segment in elf.segments], right=range(2, 8)))
    if elf.notes:
        notes = [(note.owner, note_name(note), str(len(note.desc)), note_value(note)) for note in elf.notes]
        text += "\n" + plain(table(("NOTE", "TYPE", "BYTES", "VALUE"), notes, right=(2,)))
    if found.setup:
        setup = [(name, f"{value:#x}") for name, value in found.setup.items()]
        text += "\n" + plain(table(("SETUP HEADER", "VALUE"), setup))
    return text


def _shown(carried: dict[str, Any]) -> str:
    """Command line and modules, for people."""
    text = f"command line: {printable(carried['cmdline']) or 'none'}\n"
    rows = [(m["sha256"], str(m["size"]), printable(m["cmdline"])) for m in carried["modules"]]
    head = ("MODULE (sha256)", "BYTES", "COMMAND LINE")
    return text + plain(table(head, rows, right=(1,))) if rows else text


def as_json(found: Inspection) -> str:
    """For programs."""
    elf = found.elf
    return dump(
        {
            "schema": INSPECT,
            "path": found.path,
            "format": found.format,
            "size": found.size,
            "sha256": found.digest,
            "elf": {
                "bits": elf.bits,
                "machine": elf.machine,
                "type": elf.type,
                "entry": hexadecimal(elf.entry),
            },
            "symbols": {"from": found.symbols_from, "count": found.symbols} if found.symbols else None,
            "entries": {name: hexadecimal(entry) for name, entry in sorted(found.entries.items())},
            "claims": list(found.claims),
            "segments": [
                {
                    "type": s.type,
                    "flags": s.flags,
                    "offset": hexadecimal(s.offset),
                    "vaddr": hexadecimal(s.vaddr),
                    "paddr": hexadecimal(s.paddr),
                    "filesz": s.filesz,
                    "memsz": s.memsz,
                    "align": s.align,
                }
                for s in elf.segments
            ],
            "notes": [
                {"owner": n.owner, "type": n.type, "name": note_name(n), "value": note_value(n)}
                for n in elf.notes
            ],
            "setup": {name: hexadecimal(value) for name, value in found.setup.items()} or None,
            "carried": found.carried,
        }
    )


def note_name(note: Note) -> str:
    """The name of a note's type, or its number."""
    from bootbuild.formats.notes import XEN_OWNER, XenNote

    if note.owner == XEN_OWNER and note.type in XenNote.__members__.values():
        return XenNote(note.type).name
    return str(note.type)


def note_value(note: Note) -> str:
    """A note's contents: text, an address or more numbers, or the first bytes in hex."""
    if note.owner == "Xen" and note.type in _STRINGS:
        return note.desc.split(b"\0")[0].decode("latin-1")
    each = _ARRAYS.get(note.type, len(note.desc))
    if (
        note.owner == "Xen"
        and each in (1, 2, 4, 8)
        and 0 < len(note.desc) <= SHOWN_DESC
        and not len(note.desc) % each
    ):
        parts = (note.desc[at : at + each] for at in range(0, len(note.desc), each))
        return " ".join(f"{int.from_bytes(part, 'little'):#x}" for part in parts)
    return note.desc[:SHOWN_DESC].hex(" ", 4) + (" …" if len(note.desc) > SHOWN_DESC else "")


def _segment(segment: Segment) -> tuple[str, ...]:
    flags = "".join(
        letter if segment.flags & bit else "-" for bit, letter in ((PF_R, "r"), (PF_W, "w"), (PF_X, "x"))
    )
    numbers = (segment.offset, segment.vaddr, segment.paddr, segment.filesz, segment.memsz, segment.align)
    return (_SEGMENTS.get(segment.type, f"{segment.type:#x}"), flags, *(f"{number:#x}" for number in numbers))
