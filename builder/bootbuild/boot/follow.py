"""A kernel that unpacks itself is followed to its entry, wherever it puts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bootbuild.api.environment import Scene
from bootbuild.api.guest import Follower, Unpacking
from bootbuild.model.payload import ElfImage, Startup
from bootbuild.model.trace import FOLLOWED, Placed, Stop, StopKind

if TYPE_CHECKING:
    from bootbuild.boot.run import Subject
    from bootbuild.machine import Machine

Blocks = tuple[tuple[int, int], ...]

_WRITE = 2  #: of a page fault's error code: a write to a page that is not there
_PER_SECOND = 10_000_000  #: instructions that the slowest host does
_WORD = 4  #: bytes
_BACK = "back"  #: name of a checkpoint


def follower_of(subject: Subject, scene: Scene) -> Follower | None:
    """Who goes with a run of this image; None where its kernel is not packed, or by our own stubs."""
    guest = subject.unpacking
    if guest is None or subject.image.packing is None or subject.stub is not None:
        return None
    return guest.follow(subject.image, scene, subject.exact) if isinstance(guest, Unpacking) else None


def alone_because(follower: Follower) -> str:
    """Why a run that has ended proves nothing, since the guest may have been misled by the host's help."""
    if follower.sound and (follower.placed is not None or follower.why):
        return ""
    return follower.why or "it did not come to its entry with the host's help"


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


def where_it_is(subject: Subject, placed: Placed, machine: Machine) -> Subject:
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
    startup, code = _moved(subject.startup, placed), subject.code
    if placed.virtual and code:
        code = _mended(code, machine.read_physical(startup.paddr, len(code)), placed.virtual)
    return replace(
        subject,
        code=code,
        image=replace(image, segments=segments, symbols=symbols),
        startup=startup,
        goal=None if subject.goal is None else _moved(subject.goal, placed),
        symbols=symbols,
    )


def as_linked(blocks: Blocks, after: int, image: ElfImage, placed: Placed) -> Blocks:
    """Blocks (linear address, size), those of the kernel by the addresses that it is linked at.

    A kernel puts itself at random where it is not told otherwise, and the time that has passed is all that it
    has for that. `after` so many blocks it was there; `image` is where it is.
    """

    def linked(address: int) -> int:
        for segment in image.loads:
            if address in segment.physical:
                return address - placed.physical
            if address in segment.virtual:
                return address - placed.virtual
        return address

    return blocks[:after] + tuple((linked(address), size) for address, size in blocks[after:])


def _moved(place: Startup, placed: Placed) -> Startup:
    return replace(place, paddr=place.paddr + placed.physical, vaddr=place.vaddr + placed.virtual)


def _mended(code: bytes, found: bytes, by: int) -> bytes:
    """The code as it is where it runs `by` bytes above its linked address; a word at its end is left out.

    Of a kernel only words of four bytes are mended, of longer ones the lower half (tools/relocs.c).
    """
    at = 0
    while at < len(code):
        if code[at] == found[at]:
            at += 1
            continue
        start = next((s for s in range(max(0, at - 3), at + 1) if _grown(code, found, s, by)), None)
        if start is None:
            return code[: at - 3] if at > len(code) - _WORD else code
        code = code[:start] + found[start : start + _WORD] + code[start + _WORD :]
        at = start + _WORD
    return code


def _grown(code: bytes, found: bytes, at: int, by: int) -> bool:
    """Whether the word there has grown by that, or shrunk, as what is relative to a CPU's own data."""
    old, new = (int.from_bytes(each[at : at + _WORD], "little") for each in (code, found))
    return at + _WORD <= len(code) and (new - old) % (1 << 32) in (by % (1 << 32), -by % (1 << 32))
