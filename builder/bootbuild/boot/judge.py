"""What is said of a machine where it stopped: at the startup path, at a chained entry, or on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bootbuild.api.environment import Scene
from bootbuild.api.guest import GuestView
from bootbuild.boot.moved import first_change
from bootbuild.boot.pseudo_physical import PseudoPhysical
from bootbuild.errors import PluginDefect
from bootbuild.model.machine import Load
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.span import Span
from bootbuild.model.trace import LINKED, Event, Placed, Stop, StopKind
from bootbuild.model.verdict import Finding

if TYPE_CHECKING:
    from bootbuild.api.guest import Guest
    from bootbuild.boot.run import Subject
    from bootbuild.machine import Machine

CLOCK = "BB-B025"  #: the one finding that proves nothing
_STEP = 1 << 20  #: bytes of memory looked at in one piece
_NO_WAY_ON = frozenset((StopKind.HALTED, StopKind.IDLE, StopKind.LOOP, StopKind.BUDGET))


def in_stub(subject: Subject, events: Sequence[Event]) -> list[Finding]:
    """What broke a rule in code that we inserted, even where the environment helped it over that."""
    if subject.stub is None:
        return []
    shift = subject.startup.vaddr - subject.startup.paddr
    inside = (e for e in events if e.rule and (e.ip in subject.stub or e.ip - shift in subject.stub))
    return [Finding(e.rule, f"in an inserted stub, at {e.ip:#x}: {e.detail}") for e in inside]


def first_difference(machine: Machine, structure: Load) -> int | None:
    """The first byte of a structure, at the address by which the guest knows it, that was changed."""
    expected = structure.content.read(structure.offset, structure.size)
    try:
        found = machine.read(structure.address, structure.size)
    except LookupError:  # not even mapped any more
        return structure.address
    return next(
        (structure.address + at for at, pair in enumerate(zip(found, expected)) if len({*pair}) > 1), None
    )


def judge(
    subject: Subject, scene: Scene, view: Machine | PseudoPhysical
) -> tuple[Mapping[str, Any] | None, list[Finding]]:
    """Everything that can be said of the machine standing at the startup path."""
    startup = subject.startup
    if startup.width and view.code_width != startup.width:  # nothing else of the state can be right then
        text = f"{startup.name} was reached in {view.code_width}-bit code, its own is {startup.width}-bit"
        return None, [Finding("BB-B028", text)]
    findings: list[Finding] = []
    handover: Mapping[str, Any] | None = None
    if subject.guest is not None:
        handover, found = _asked(subject.guest, subject, scene, view)
        findings += found
    if subject.from_entry:
        return handover, findings
    if lost := stray(view, startup):
        findings.append(lost)
    elif _other_code(subject, view):
        findings.append(
            Finding("BB-B020", f"the bytes at {startup.name} ({startup.paddr:#x}) are not the payload's")
        )
    if subject.stub is not None and subject.untouched:
        findings += _judge_bss(subject.image, subject.stub, view, scene.filled)
        findings += _judge_bytes(subject, scene, view)
    return handover, findings


def _asked(
    guest: Guest, subject: Subject, scene: Scene, view: Machine | PseudoPhysical
) -> tuple[Mapping[str, Any], Sequence[Finding]]:
    """What the guest says. Raises PluginDefect for what is no handover with findings."""
    said: Any = guest.judge(view, subject.startup, scene.given, subject.stub, subject.symbols)
    try:
        handover, found = said
        json.dumps(handover)
        if isinstance(handover, Mapping) and all(isinstance(one, Finding) for one in found):
            return handover, found
    except (TypeError, ValueError):
        pass
    text = f"returned {said!r:.100}, which is no handover of JSON types with a list of Findings"
    raise PluginDefect(guest, "judge", text)


def stray(view: Machine | PseudoPhysical, place: Startup) -> Finding | None:
    """Whether the address at which a place was reached leads to it."""
    at = view.translate(view.get("rip"))
    if at == place.paddr:
        return None
    where = "nowhere" if at is None else f"to physical {at:#x}"
    text = f"{place.name} was reached at {view.get('rip'):#x}, which leads {where}, not to {place.paddr:#x}"
    return Finding("BB-B020", text)


def _judge_bytes(subject: Subject, scene: Scene, machine: Machine | PseudoPhysical) -> Iterator[Finding]:
    """Every byte of the payload that was loaded is still there: nothing was written over it."""
    if subject.image.packing is not None:
        yield from _judge_unpacked(subject, machine)
        return
    for load in scene.loads:
        if load.content is not subject.image.content:
            continue
        parts = _contents(load, subject.image)
        if subject.placed == LINKED:
            changes = [machine.first_change(part) for part in parts]
        else:
            changes = [_first_not_mended(part, machine, subject.placed) for part in parts]
        at = next((change for change in changes if change is not None), None)
        if at is not None:
            yield Finding("BB-B020", f"the byte at {at:#x} is not the payload's any more")


def _judge_unpacked(subject: Subject, view: GuestView) -> Iterator[Finding]:
    """Every byte of the kernel that was packed is where its program headers have it."""
    for s in subject.image.loads:
        loaded = Load(s.paddr, subject.image.content, s.offset, s.filesz, s.filesz)
        at = _first_not_mended(loaded, view, subject.placed)
        if at is not None:
            yield Finding("BB-B020", f"the byte at {at:#x} is not the payload's")
            return


def _first_not_mended(load: Load, view: GuestView, placed: Placed) -> int | None:
    """The first byte that is neither as it was loaded nor of an address in an image that lies there."""

    def expected(at: int, size: int) -> bytes:
        return load.content.read(load.offset + at, size)

    def found(at: int, size: int) -> bytes:
        return view.read_physical(load.address + at, size)

    at = first_change(expected, found, load.size, placed)
    return None if at is None else load.address + at


def _other_code(subject: Subject, view: GuestView) -> bool:
    """Whether other code stands at the startup path than the payload's."""
    code = subject.code
    found = view.read_physical(subject.startup.paddr, len(code))
    at = first_change(
        lambda at, n: code[at : at + n], lambda at, n: found[at : at + n], len(code), subject.placed
    )
    return at is not None


def _contents(load: Load, image: ElfImage) -> Iterator[Load]:
    """What of a load is bytes of a segment: one by addresses in a header has .bss between them, as zeros."""
    for segment in image.loads:
        start = max(load.offset, segment.offset)
        size = min(load.offset + load.size, segment.offset + segment.filesz) - start
        if size > 0:
            place = load.address + start - load.offset
            yield Load(place, load.content, start, size, size)


def _judge_bss(image: ElfImage, stub: Span, view: GuestView, filled: Sequence[Span]) -> list[Finding]:
    """The payload's .bss is zero but for what is `filled`: the front stub answers for it."""
    for segment in image.loads:
        rest = Span(segment.paddr + segment.filesz, segment.memsz - segment.filesz)
        if rest.size <= 0 or stub.overlaps(segment.physical):
            continue
        for offset in range(0, rest.size, _STEP):
            here = Span(rest.start + offset, min(_STEP, rest.size - offset))
            part = bytearray(view.read_physical(here.start, here.size))
            for other in filled:
                start, end = max(here.start, other.start), min(here.end, other.end)
                if start < end:
                    part[start - here.start : end - here.start] = bytes(end - start)
            if part.count(0) != len(part):
                at = next(i for i, byte in enumerate(part) if byte)
                return [
                    Finding(
                        "BB-B021", f"the byte at {rest.start + offset + at:#x} of .bss {rest} is not zero"
                    )
                ]
    return []


def _console_tail(scene: Scene) -> tuple[str, ...]:
    text = bytes(scene.platform.console).decode("utf-8", "replace").splitlines()
    return tuple(f"console: {line}" for line in text[-3:] if line.strip())


def _moved(scene: Scene) -> tuple[str, ...]:
    where = "above" if scene.moved > 0 else "below"
    return (f"moved: {abs(scene.moved):#x} bytes {where} where it is linked",) if scene.moved else ()


def _through_zero(blocks: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """That a run has left its code for address 0, where garbage may keep it going for long."""
    text = "went to address 0: by a return from the startup path, or by a call of a null pointer"
    return (text,) if any(not address for address, _ in blocks) else ()


def finding_of(stop: Stop, scene: Scene, blocks: Sequence[tuple[int, int]]) -> Finding:
    """Why a run ended that came by these blocks, and not to where it should."""
    rule = stop.rule
    if stop.kind in (StopKind.SHUTDOWN, StopKind.RESET, StopKind.CRASH):
        rule = rule or "BB-B022"
    elif stop.kind is StopKind.TIME:
        rule = CLOCK
    lines = (*_console_tail(scene), *_moved(scene), *_through_zero(blocks), *stop.report)
    return Finding(rule, stop.detail, lines=lines)


def with_overwritten(finding: Finding, scene: Scene, machine: Machine) -> Finding:
    """With what the guest has overwritten of the structures that it was handed, which may be the reason."""
    if scene.frames:
        return finding
    structures = ((load, machine.first_change(load)) for load in scene.given.structures)
    lines = (
        f"overwritten: {at:#x}, of what the environment handed over at {Span(load.address, load.memsz)}"
        for load, at in structures
        if at is not None
    )
    return replace(finding, lines=(*finding.lines, *lines))


def missing_text(stop: Stop, expect: bytes, scene: Scene, blocks: Sequence[tuple[int, int]]) -> Finding:
    """By the rule of what ended the run, where the guest did wrong and not only nothing more."""
    found = finding_of(stop, scene, blocks)
    if stop.kind is StopKind.TIME:
        return found
    rule = stop.rule if stop.rule and stop.kind not in _NO_WAY_ON else "BB-B023"
    text = f"{expect.decode('utf-8', 'replace')!r} was not printed: {stop.detail}"
    return replace(found, rule=rule, message=text)
