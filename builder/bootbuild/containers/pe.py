"""The PE container: a UEFI application that carries kernel and stubs, or a payload's own PE file as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bootbuild.abi.application import KERNEL, RECORD, STUBS
from bootbuild.containers import pe_headers, pe_plan, pe_rules, rules
from bootbuild.containers.elf import ElfContainer
from bootbuild.containers.pe_headers import FILE_ALIGNMENT, HEADERS, PAGE, READ, READ_EXECUTE, READ_WRITE_ZERO
from bootbuild.errors import Problem, RefusedError
from bootbuild.formats.notes import ImageClaim, pack
from bootbuild.model.blob import Blob
from bootbuild.model.content import Content, FileContent, MemoryContent, chunks, snapshot
from bootbuild.model.contribution import Application, Contribution, Layout, PlacedSection
from bootbuild.model.payload import Payload
from bootbuild.model.span import Span, align_up
from bootbuild.store import writing
from bootbuild.stubs.link import Params, extent, link

NAME = "pe"
LIMIT = 1 << 31  #: bytes of image: EDK2 and shim compute in signed 32-bit numbers here and there
_RELOCATIONS = (0).to_bytes(4, "little") + (12).to_bytes(4, "little") + bytes(4)


class PeContainer:
    """Makes one PE32+ file of an Application, the payload, and a chain of stubs that stands behind it."""

    suffix = ".efi"

    def lay_out(self, payload: Payload, contributions: Sequence[Contribution]) -> Layout:
        """Place chain and sections.

        The chain is linked where the ELF container would put it, behind the payload. Raises RefusedError
        (BB-W001 to BB-W009, BB-W060 to BB-W063), and PluginError where the stubs do not link.
        """
        if len(contributions) > 1:
            names = " and ".join(c.target for c in contributions)
            text = f"{names} are to be one file; container {NAME} holds one target"
            raise RefusedError(Problem(rules.WRONG_CONTAINER, payload.source, text))
        (contribution,) = contributions
        if contribution.application is None:
            if payload.elf.packing is None:
                text = f"{contribution.target}: the payload's file is kept as it is, and that is no PE file"
                raise RefusedError(Problem(pe_rules.NO_FILE, payload.source, text))
            return Layout((), b"", ())
        placed = ElfContainer().lay_out(payload, [replace(contribution, container="elf")])
        (_, landing), *_ = placed.entries
        application = contribution.application
        taken = _taken(payload, placed.stub)
        claim = ImageClaim(contribution.target, contribution.guest, contribution.startup, placed.stub)
        chain = MemoryContent(placed.segments[0].data)
        fixed = [
            (".reloc", MemoryContent(_RELOCATIONS)),
            (RECORD, MemoryContent(pack([claim.pack()]))),
            (STUBS, chain),
            (KERNEL, payload.elf.content),
        ]
        others = [*fixed, *application.sections]
        problems = list(_problems(payload, others))
        if problems:
            raise RefusedError(problems)
        moves = len(payload.elf.loads) + 1
        text_size, bss_size = _extent(application, len(taken), moves)
        bss = align_up(HEADERS + text_size, PAGE)
        after = list(_in_rows(others, align_up(bss + bss_size, PAGE)))
        address = {section.name: section.address for section in after}
        moved = [(s.paddr, address[KERNEL] + s.offset, s.filesz) for s in payload.elf.loads if s.filesz]
        moved.append((placed.segments[0].paddr, address[STUBS], chain.size))
        plan = pe_plan.pack(landing, application.flags, taken, moved, application.grain)
        plan += bytes(pe_plan.size(len(taken), moves) - len(plan))
        linked = link([application.stub], [_plan_blob(plan)], Params(0, placed.stub), HEADERS, bss)
        sections = (
            PlacedSection(".text", READ_EXECUTE, HEADERS, len(linked.text), MemoryContent(linked.text)),
            PlacedSection(".bss", READ_WRITE_ZERO, bss, linked.bss_size, None),
            *after,
        )
        end = sections[-1].memory.end
        if end > LIMIT:
            text = f"{end:#x} bytes of image; a PE file of UEFI has at most {LIMIT:#x}"
            raise RefusedError(Problem(pe_rules.TOO_LARGE, payload.source, text))
        return Layout(
            segments=placed.segments,
            notes=b"",
            entries=((contribution.target, landing),),
            stub=placed.stub,
            sections=sections,
            entry_point=linked.exports[application.stub.entry],
        )

    def write(self, payload: Payload, layout: Layout, destination: Path) -> Content:
        """Write the file, streamed, and have it read by other code; what was written.

        Raises OutputError (BB-W09n) and VerificationError (BB-W064 to BB-W076).
        """
        from bootbuild.containers.verify_pe import verify

        with writing(destination) as output:
            if not layout.sections:
                assert payload.elf.packing is not None
                for part in chunks(payload.elf.packing):
                    output.write(part)
            else:
                checksum = pe_headers.Checksum()
                head = pe_headers.pack(layout)
                for part in _parts(layout):
                    checksum.add(part)
                output.write(pe_headers.with_checksum(head, checksum.result(head)))
                for part in _parts(layout):
                    output.write(part)
            verify(payload, layout, output.path, str(destination))
            return snapshot(FileContent(output.path))


def _parts(layout: Layout) -> Iterator[memoryview]:
    """Everything behind the headers, each section padded to the file's alignment."""
    for section in layout.sections:
        if section.content is not None:
            yield from chunks(section.content)
            yield memoryview(bytes(-section.size % FILE_ALIGNMENT))


def _extent(application: Application, ranges: int, moves: int) -> tuple[int, int]:
    """Bytes of the application's text, with its plan, and of its NOBITS."""
    room = extent([application.stub], [_plan_blob(bytes(pe_plan.size(ranges, moves)))])
    return room.text_size, room.bss_size


def _plan_blob(plan: bytes) -> Blob:
    return Blob("plan", 64, plan, 16, 0, 1, (), {pe_plan.SYMBOL: (".text", 0)}, "bootbuild")


def _in_rows(contents: Sequence[tuple[str, Content]], at: int) -> Iterator[PlacedSection]:
    for name, content in contents:
        yield PlacedSection(name, READ, at, content.size, content)
        at = align_up(at + max(content.size, 1), PAGE)


def _taken(payload: Payload, stub: Span) -> tuple[Span, ...]:
    """What payload and chain take up once they are in their places: whole pages, none touching another."""
    pages = sorted(
        (s.start // PAGE * PAGE, align_up(s.end, PAGE))
        for s in (*(segment.physical for segment in payload.elf.loads), stub)
    )
    merged: list[tuple[int, int]] = []
    for start, end in pages:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return tuple(Span(start, end - start) for start, end in merged)


def _problems(payload: Payload, contents: Sequence[tuple[str, Content]]) -> Iterator[Problem]:
    for name, content in contents:
        plain = name.isascii() and name.isprintable() and not name.startswith("/")
        if not 1 < len(name.encode()) <= 8 or not plain:
            text = (
                f"a section {name!r} has no name of 2 to 8 printable ASCII characters, the first of them no /"
            )
            yield Problem(pe_rules.SECTION_NAME, payload.source, text)
        if not content.size:
            yield Problem(pe_rules.SECTION_NAME, payload.source, f"section {name} is empty")
    count = len(contents) + 2
    if count > pe_headers.MOST_SECTIONS:
        text = f"{count} sections; there is room for the headers of {pe_headers.MOST_SECTIONS}"
        yield Problem(pe_rules.HEADER_SPACE, payload.source, text)
    if len(payload.elf.loads) + 1 > pe_plan.MOST_MOVES:
        text = f"{len(payload.elf.loads)} segments; the stub moves at most {pe_plan.MOST_MOVES - 1}"
        yield Problem(pe_rules.TOO_MANY_MOVES, payload.source, text)
    try:
        pe_headers.timestamp()
    except ValueError as error:
        yield Problem(pe_rules.TIME, "SOURCE_DATE_EPOCH", str(error))
