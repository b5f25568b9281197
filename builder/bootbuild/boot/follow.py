"""A kernel that unpacks itself is followed to its entry, wherever it puts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bootbuild.api.environment import Scene
from bootbuild.api.guest import Follower, Unpacking
from bootbuild.model.payload import Startup
from bootbuild.model.trace import FOLLOWED, Placed, Stop, StopKind

if TYPE_CHECKING:
    from bootbuild.boot.run import Subject
    from bootbuild.machine import Machine

_WRITE = 2  #: of a page fault's error code: a write to a page that is not there
_PER_SECOND = 10_000_000  #: instructions that the slowest host does
_BACK = "back"  #: name of a checkpoint


def follower_of(subject: Subject, scene: Scene) -> Follower | None:
    """Who goes with a run of this image; None where its kernel is not packed, or by our own stubs."""
    guest = subject.guest
    if subject.image.packing is None or subject.stub is not None or not isinstance(guest, Unpacking):
        return None
    return guest.follow(subject.image, scene, subject.exact)


def follow(follower: Follower, machine: Machine, budget: int, left: Callable[[], float]) -> Stop:
    """Run up to the kernel's entry, where `follower.placed` says where it is, or to what ends the run.

    `budget`: instructions; `left` says how many seconds there are.
    """
    budget += follower.patience
    more = follower.patience / _PER_SECOND

    def ask(address: int, code: bytes) -> bool:
        return follower.block(machine, address, code)

    while True:
        stop = machine.run(checkpoints={}, budget=budget, seconds=left() + more, follow=ask)
        if stop.checkpoint != FOLLOWED:
            return stop
        for address in follower.touched(machine):
            if machine.translate(address) is None:
                machine.page_fault(address, _WRITE)
                back = machine.run(checkpoints={stop.ip: _BACK}, budget=budget, seconds=left() + more)
                if back.kind is not StopKind.CHECKPOINT:
                    return back
        follower.stopped(machine)
        if follower.placed is not None:
            return stop


def where_it_is(subject: Subject, placed: Placed) -> Subject:
    """What is to be proved, of a kernel that has put itself elsewhere than it is linked."""
    if placed == Placed(0, 0):
        return subject
    image = subject.image
    segments = tuple(
        replace(s, paddr=s.paddr + placed.physical, vaddr=s.vaddr + placed.virtual) for s in image.segments
    )
    symbols = subject.symbols
    if placed.virtual:
        symbols = {name: address + placed.virtual for name, address in symbols.items()}
    return replace(
        subject,
        image=replace(image, segments=segments, symbols=symbols),
        startup=_moved(subject.startup, placed),
        goal=None if subject.goal is None else _moved(subject.goal, placed),
        symbols=symbols,
    )


def _moved(place: Startup, placed: Placed) -> Startup:
    return replace(place, paddr=place.paddr + placed.physical, vaddr=place.vaddr + placed.virtual)
