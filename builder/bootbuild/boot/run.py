"""One run of one image in one profile: build the scene, start the machine, stop at the startup path."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bootbuild.api.environment import Profile, Scene
from bootbuild.api.guest import Follower, Guest
from bootbuild.boot.follow import alone_because, follow, follower_of, patience_of
from bootbuild.boot.judge import (
    finding_of,
    first_difference,
    in_stub,
    judge,
    missing_text,
    stray,
    with_overwritten,
)
from bootbuild.boot.moved import Arrival, as_linked, where_it_lies
from bootbuild.boot.pseudo_physical import PseudoPhysical
from bootbuild.errors import PluginDefect
from bootbuild.model.content import Content
from bootbuild.model.machine import Filling, Offer
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.span import Span
from bootbuild.model.trace import FOLLOWED, LINKED, BootTrace, Placed, Stop, StopKind
from bootbuild.model.verdict import Finding, Level

if TYPE_CHECKING:
    from bootbuild.machine import Machine

Blocks = tuple[tuple[int, int], ...]  #: linear address and size in bytes

STARTUP, ENTRY, GOAL, STUB = "startup", "own entry", "expected", "stub"  #: names of checkpoints
_CODE = 64  #: bytes compared at the startup path


@dataclass(frozen=True)
class Subject:
    """What is to be proved of an image, whatever the profile."""

    image: ElfImage
    startup: Startup
    guest: Guest | None  #: None: nobody knows the protocol, so no handover is judged
    offer: Offer
    stub: Span | None  #: physical range of the inserted stubs, None for a native entry
    symbols: Mapping[str, int]
    expect: bytes  #: console text, b"" for none
    budget: int  #: instructions
    timeout: float  #: seconds of wall time
    code: bytes  #: the payload's bytes at its startup path
    own_entry: int | None = None  #: physical; where a chained stub must leave the machine as it found it
    goal: Startup | None = None  #: a place behind the startup path that must be reached as well
    unpacking: Guest | None = None  #: whose kernels may be packed as this one is, if it is
    exact: str = ""  #: why a packed kernel unpacks itself, without the host's help; empty: it need not
    untouched: bool = True  #: nothing of the payload runs before: its .bss is as the stubs left it
    from_entry: bool = False  #: the startup path is unknown, and wherever the image is entered stands for it
    level: Level | None = None  #: where a run ends; None: at what is expected behind the startup path
    placed: Placed = LINKED  #: where the image lies, by whomever; all addresses are those there


@dataclass(frozen=True)
class Run:
    """A trace, what the guest was handed, and what is wrong with either."""

    trace: BootTrace
    handover: Mapping[str, Any] | None
    findings: tuple[Finding, ...]
    proved: str  #: what was reached; "" if nothing was
    level: Level | None = None  #: what of levels that is
    way: Blocks = ()  #: up to the startup path; of a kernel that has put itself somewhere, as it is linked
    alone: str = ""  #: why it proves nothing, and the guest has to unpack itself without the host's help

    @property
    def conclusive(self) -> bool:
        """Whether it passed, or failed on proof: the clock proves nothing."""
        return self.trace.stop.kind is not StopKind.TIME


def code_at(image: ElfImage, startup: Startup) -> bytes:
    """The file's own bytes at `startup`, up to 64; b"" where the file has none (.bss, decompressed code)."""
    segment = image.segment_at(startup.vaddr)
    if segment is None:
        return b""
    offset = startup.vaddr - segment.vaddr
    size = min(_CODE, segment.filesz - offset)
    content: Content = image.content
    return content.read(segment.offset + offset, size) if size > 0 else b""


def scene_of(
    profile: Profile, subject: Subject, filling: Filling, only: frozenset[str] | None = None
) -> Scene:
    """The profile's scene. Raises InputError as that does, PluginDefect for what is no scene."""
    scene: object = profile.scene(subject.image, subject.offer, filling, only)
    if not isinstance(scene, Scene):
        raise PluginDefect(profile, "scene", f"returned {scene!r:.100}, which is no Scene")
    return scene


def _machine(profile: Profile, scene: Scene) -> Machine:
    from bootbuild.machine import Machine

    try:
        return Machine(scene)
    except ValueError as error:  # it documents what a scene cannot be
        raise PluginDefect(profile, "scene", f"made a Scene that cannot be: {error}") from error


def run_once(
    subject: Subject,
    profile: Profile,
    filling: Filling,
    budget: int,
    only: frozenset[str] | None = None,
) -> Run:
    """Boot once. Raises InputError when the profile's loader would refuse the file, MachineError (BB-B090)
    before the first run of a process if the emulated core is not the one that this was made for.
    """
    from bootbuild.machine import self_test

    self_test()
    began = time.perf_counter()
    scene = scene_of(profile, subject, filling, only)
    if subject.from_entry:
        entry = scene.state.entry
        subject = replace(subject, startup=replace(subject.startup, vaddr=entry, paddr=entry))
    home = subject
    subject = where_it_lies(subject, Placed(scene.moved, 0))
    follower = follower_of(subject, scene)
    more, seconds = patience_of(subject, follower)
    budget += more
    startup = subject.startup
    stops = {startup.vaddr: STARTUP, startup.paddr: STARTUP}  # by its linked or its physical address

    def left() -> float:
        return subject.timeout + seconds - (time.perf_counter() - began)

    with _machine(profile, scene) as machine:
        findings: list[Finding] = []
        passed: list[Stop] = []
        if subject.own_entry is not None:
            mapped = subject.own_entry + startup.vaddr - startup.paddr & (1 << 64) - 1
            entries = {subject.own_entry: ENTRY, mapped: ENTRY}  # without paging, and in the linked mapping
            found, *passed = _run_chain(subject, entries, scene, machine, budget)
            findings += found
        unpacked_after = 0  #: blocks
        if follower is not None:
            subject, stop, unpacked_after = _followed(subject, follower, machine, budget, left)
            startup = subject.startup
            passed.append(stop)
        elif not findings and subject.own_entry not in stops:  # else it stands there already
            subject, scene, stop = _arrived(subject, scene, machine, budget, left)
            startup = subject.startup
            passed.append(stop)
        stop = passed[-1]
        findings += (follower and follower.handed) or ()
        reached = not findings and stop.kind is StopKind.CHECKPOINT and stop.checkpoint != STUB
        blocks_to_startup = len(machine.blocks)
        handover: Mapping[str, Any] | None = None
        proved = ""
        if reached:
            proved = startup.name
            view = PseudoPhysical(machine, scene.frames, scene.first_frame) if scene.frames else machine
            scene = replace(scene, given=scene.platform.handed(scene.given))
            handover, found = judge(subject, scene, view)
            findings += [*scene.platform.faults(), *found]
            after = _expected(subject, scene, machine, view, budget, left)
            passed += after.stops
            proved = ", ".join((proved, *after.reached))
            findings += after.findings
        elif stop.checkpoint == STUB and not findings:
            proved = STUB
        elif not findings:
            ended = with_overwritten(finding_of(stop, scene, machine.blocks), scene, machine)
            findings.append(replace(ended, message=f"{startup.name} was not reached: {ended.message}"))
        findings += in_stub(subject, machine.events)
        linked = as_linked(home, subject)
        way, steady = _way(machine.blocks[:blocks_to_startup], linked, scene.platform.steady, unpacked_after)
        trace = BootTrace(
            target=profile.target,
            profile=profile.name,
            filling=filling,
            entered=scene.state.entry,
            stops=tuple(passed),
            instructions=machine.instructions,
            blocks=machine.blocks,
            startup_blocks=blocks_to_startup,
            digest=_digest(way, reached, handover, steady),
            console=bytes(scene.platform.console),
            events=machine.events,
            seconds=time.perf_counter() - began,
            unpacked="" if follower is None or stop.checkpoint == STUB else follower.how,
            placed=_placed(subject, scene) if follower is None else follower.placed,
        )
        alone = "" if follower is None else alone_because(follower, subject.level)
    return Run(
        trace,
        handover,
        tuple(findings),
        proved,
        _level(reached and not subject.from_entry, follower),
        way,
        alone,
    )


def _level(reached: bool, follower: Follower | None) -> Level | None:
    """How far a run came that goes through a boot stub in the image; None if nobody knows its kernel."""
    if reached:
        return Level.HANDOFF
    return None if follower is None or follower.handed is None else Level.STUB


def _arrived(
    subject: Subject, scene: Scene, machine: Machine, budget: int, left: Callable[[], float]
) -> tuple[Subject, Scene, Stop]:
    """Run to the startup path; what is to be proved, and in which scene, where a program has put it."""
    arrival = Arrival(subject, scene.grain, machine)
    stops = {subject.startup.vaddr: STARTUP, subject.startup.paddr: STARTUP}
    while True:
        stop = machine.run(checkpoints=stops, budget=budget, seconds=left(), follow=arrival)
        if not _still_packed(subject, stop, machine):
            break
    if stop.checkpoint == FOLLOWED:
        subject = where_it_lies(subject, arrival.placed)
        scene = replace(scene, moved=arrival.placed.physical)
        stop = replace(stop, checkpoint=STARTUP, detail=f"reached {STARTUP}")
    return subject, scene, stop


def _followed(
    subject: Subject, follower: Follower, machine: Machine, budget: int, left: Callable[[], float]
) -> tuple[Subject, Stop, int]:
    """Run a kernel that unpacks itself to its startup path: what is to be proved where it lies.

    And after how many blocks it was there.
    """
    stop = follow(follower, machine, budget, left, subject.level)
    if follower.placed is None:
        if stop.checkpoint == FOLLOWED:
            stop = replace(stop, checkpoint=STUB, detail="the kernel's own boot stub has handed it over")
        return subject, stop, len(machine.blocks)
    after = len(machine.blocks) - 1
    subject = where_it_lies(subject, follower.placed)
    stops = {subject.startup.vaddr: STARTUP, subject.startup.paddr: STARTUP}
    if stop.ip in stops:
        return subject, replace(stop, checkpoint=STARTUP, detail=f"reached {STARTUP}"), after
    return subject, machine.run(checkpoints=stops, budget=budget, seconds=left()), after


def _placed(subject: Subject, scene: Scene) -> Placed | None:
    """Where a program in the image has put it."""
    return subject.placed if scene.grain and subject.placed != LINKED else None


def _way(
    blocks: Blocks,
    linked: Callable[[int], int | None],
    placed: Callable[[int], int],
    unpacked_after: int,
) -> tuple[Blocks, Callable[[int], int]]:
    """The blocks up to the startup path by addresses that are the same in every run, and what makes them so.

    Before the kernel is unpacked they lie where the environment put them, or the guest by its services.
    """

    def steady(address: int) -> int:
        found = linked(address)
        return placed(address) if found is None else found

    before = ((placed(address), size) for address, size in blocks[:unpacked_after])
    return (*before, *((steady(address), size) for address, size in blocks[unpacked_after:])), steady


def _still_packed(subject: Subject, stop: Stop, machine: Machine) -> bool:
    """Whether other code stands where the startup path will be: that of a kernel yet to be unpacked there.

    A bzImage is loaded, and by 32-bit loaders entered, at the very address that its kernel is linked at.
    """
    if subject.image.packing is None or stop.checkpoint != STARTUP:
        return False
    startup = subject.startup
    if startup.width and machine.code_width != startup.width:
        return True
    try:
        return machine.read(machine.get("rip"), len(subject.code)) != subject.code
    except LookupError:
        return False


@dataclass
class _After:
    """What a run did behind the startup path."""

    stops: list[Stop] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def _expected(
    subject: Subject,
    scene: Scene,
    machine: Machine,
    view: Machine | PseudoPhysical,
    budget: int,
    left: Callable[[], float],
) -> _After:
    """Go on to what the recipe expects: first the place, then the text, which may come before that."""
    after = _After()
    if subject.level is not None:
        return after
    printed = len(scene.platform.console)
    goal, text = subject.goal, subject.expect
    if goal is not None:
        stop = machine.run(checkpoints={goal.vaddr: GOAL, goal.paddr: GOAL}, budget=budget, seconds=left())
        after.stops.append(stop)
        if stop.kind is not StopKind.CHECKPOINT:
            found = finding_of(stop, scene, machine.blocks)
            after.findings.append(replace(found, message=f"{goal.name} was not reached: {found.message}"))
            return after
        if lost := stray(view, goal):
            after.findings.append(lost)
            return after
        after.reached.append(goal.name)
    if text and text not in scene.platform.console[printed:]:
        stop = machine.run(checkpoints={}, budget=budget, seconds=left(), console=text)
        after.stops.append(stop)
        if text not in scene.platform.console[printed:]:
            after.findings.append(missing_text(stop, text, scene, machine.blocks))
            return after
    if text:
        after.reached.append(f"console {text.decode('utf-8', 'replace')!r}")
    return after


def _run_chain(
    subject: Subject, entries: Mapping[int, str], scene: Scene, machine: Machine, budget: int
) -> tuple[list[Finding], Stop]:
    """Run up to the payload's own entry, where everything must be as the environment left it."""
    before = machine.registers()
    stop = machine.run(checkpoints=entries, budget=budget, seconds=subject.timeout)
    if stop.kind is not StopKind.CHECKPOINT:
        return [finding_of(stop, scene, machine.blocks)], stop
    after = machine.registers()
    wrong = [
        f"{name} is {after[name]:#x}, the environment left {value:#x}"
        for name, value in before.items()
        if name != "rip" and after[name] != value
    ]
    modules = {module.span for module in scene.given.modules}
    loads = [
        load
        for load in scene.loads
        if load.content is subject.image.content or Span(load.address, load.size) in modules
    ]
    changes = [first_difference(machine, load) for load in scene.given.structures]
    changes += [machine.first_change(load) for load in loads]
    wrong += [f"the byte at {at:#x} was changed" for at in changes if at is not None]
    return [Finding("BB-B026", f"at the payload's own entry {text}") for text in wrong], stop


def _digest(
    way: Blocks, reached: bool, handover: Mapping[str, Any] | None, steady: Callable[[int], int]
) -> str:
    """Two runs with the same digest took the same way and handed over the same, wherever things lie."""
    text = json.dumps([way, reached, _steady(handover, steady)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _steady(value: Any, steady: Callable[[int], int]) -> Any:
    """A part of a handover with each address, a string in hex but for sizes, as it is in every run.

    But for entries of a memory map: they begin where something lies, and are no addresses of that.
    """
    if isinstance(value, Mapping):
        if value.keys() >= {"address", "size", "type"}:
            return value
        return {key: part if "size" in key else _steady(part, steady) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_steady(part, steady) for part in value]
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return hex(steady(int(value, 16)))
        except ValueError:  # no address, but somebody's words
            return value
    return value
