"""A kernel that unpacks itself is followed to its entry, wherever it puts itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bootbuild.api.environment import Scene
from bootbuild.api.guest import Follower, Unpacking
from bootbuild.formats.stand_in import packed_kernel
from bootbuild.model.trace import FOLLOWED, Stop, StopKind
from bootbuild.model.verdict import Level

if TYPE_CHECKING:
    from bootbuild.boot.run import Subject
    from bootbuild.machine import Machine

_WRITE = 2  #: of a page fault's error code: a write to a page that is not there
_PER_SECOND = 10_000_000  #: instructions that the slowest host does
_COPIED, _UNPACKED = 1, 20  #: instructions of our own stub for each byte of the kernel (stubs/lz4.h), at most
_BACK = "back"  #: name of a checkpoint


def follower_of(subject: Subject, scene: Scene) -> Follower | None:
    """Who goes with a run of this image; None where its kernel is not packed, or by our own stubs."""
    guest = subject.unpacking
    if guest is None or subject.image.packing is None or subject.stub is not None:
        return None
    if not isinstance(guest, Unpacking):
        return None
    return guest.follow(subject.image, scene, subject.exact, subject.level)


def patience_of(subject: Subject, follower: Follower | None) -> tuple[int, float]:
    """Instructions, and seconds, that a run may take to unpack its kernel, beyond its budget."""
    if follower is not None:
        most = follower.patience
    elif subject.stub is not None and (packed := packed_kernel(subject.image)) is not None:
        most = subject.image.content.size * (_UNPACKED if packed.compression else _COPIED)
    else:
        most = 0
    return most, most / _PER_SECOND


def alone_because(follower: Follower, level: Level | None = None) -> str:
    """Why a run to `level` proves nothing: the guest may have been misled by the host's help."""
    there = follower.placed is not None or (level is Level.STUB and follower.handed is not None)
    if follower.sound and (there or follower.why):
        return ""
    return follower.why or "it did not come to its entry with the host's help"


def follow(
    follower: Follower,
    machine: Machine,
    budget: int,
    left: Callable[[], float],
    level: Level | None = None,
) -> Stop:
    """Run up to the kernel's entry, where `follower.placed` says where it is, or to what ends the run.

    With level STUB also to where the kernel's own boot stub has `handed` it over. `budget`: instructions;
    `left` says how many seconds there are.
    """

    def ask(address: int, code: bytes) -> bool:
        return follower.block(machine, address, code)

    while True:
        stop = machine.run(checkpoints={}, budget=budget, seconds=left(), follow=ask)
        if stop.checkpoint != FOLLOWED:
            return stop
        for address in follower.touched(machine):
            if machine.translate(address) is None:
                machine.page_fault(address, _WRITE)
                back = machine.run(checkpoints={stop.ip: _BACK}, budget=budget, seconds=left())
                if back.kind is not StopKind.CHECKPOINT:
                    return back
        follower.stopped(machine)
        if follower.placed is not None or (level is Level.STUB and follower.handed is not None):
            return stop
