"""What happened when an image ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bootbuild.model.machine import Filling

FOLLOWED = "followed"  #: checkpoint of a block before which a `Follower` had the machine stop


class StopKind(Enum):
    """Why the machine stands still."""

    CHECKPOINT = "checkpoint"  #: an address that was asked for is about to be executed
    CONSOLE = "console"  #: the text that was asked for has been printed
    SHUTDOWN = "shutdown"  #: the guest asked the platform to power off
    RESET = "reset"  #: the guest asked the platform for a reset
    CRASH = "crash"  #: the guest told the platform that it crashed
    HALTED = "halted"  #: HLT with interrupts off: nothing can wake it
    IDLE = "idle"  #: HLT with interrupts on, in a machine that delivers none
    TRIPLE_FAULT = "triple-fault"
    OUTSIDE = "outside"  #: access to physical memory that the environment did not give
    RESERVED_WRITE = "reserved-write"  #: write to memory that the map calls reserved
    NOT_ALLOCATED = "not-allocated"  #: write to memory that is nobody's yet
    VIOLATION = "violation"  #: something that hardware faults on and the engine does not
    LOOP = "loop"  #: the machine's state repeats: it will never go on
    BUDGET = "budget"  #: the instruction budget is used up
    TIME = "time"  #: the wall clock ran out: nothing is proved


@dataclass(frozen=True)
class Stop:
    """One stop, with all that a report needs. Addresses: `ip` and `address` virtual, `physical` physical."""

    kind: StopKind
    ip: int
    detail: str  #: a sentence
    checkpoint: str = ""  #: the name that was given to it
    rule: str = ""  #: id of the rule, for VIOLATION
    address: int | None = None
    physical: int | None = None
    registers: Mapping[str, int] = field(default_factory=dict)
    report: tuple[str, ...] = ()  #: lines: registers, page walk


@dataclass(frozen=True)
class Event:
    """Something worth knowing that did not stop the run: an unknown MSR, hypercall, port."""

    kind: str
    ip: int
    detail: str
    rule: str = ""


@dataclass(frozen=True)
class Placed:
    """Where a kernel lies: bytes above the addresses that it is linked at, negative below."""

    physical: int
    virtual: int


LINKED = Placed(0, 0)  #: where it is linked


@dataclass(frozen=True)
class BootTrace:
    """One run of one image in one profile."""

    target: str
    profile: str
    filling: Filling
    entered: int  #: where the environment jumped to
    stops: tuple[Stop, ...]  #: checkpoints passed, then the last stop
    instructions: int
    blocks: tuple[tuple[int, int], ...] = field(repr=False)
    """(Linear address, size in bytes) in order of first execution; () in a record that was reused."""
    startup_blocks: int  #: how many of them ran before the startup path was reached
    digest: str  #: SHA-256 over those, by address, over whether it was reached, and over the handover
    console: bytes
    events: tuple[Event, ...]
    seconds: float = field(compare=False)
    unpacked: str = ""  #: who unpacked the kernel: "the host (lz4)" …; "" where nobody had to
    placed: Placed | None = None  #: where the kernel has put itself, if it did

    @property
    def stop(self) -> Stop:
        return self.stops[-1]
