"""What the parts of one machine share: core, memory, and the one place where a stop is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from bootbuild.api.machine import Cpu, Platform
from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.engine import Core
from bootbuild.machine.memory import Memory
from bootbuild.machine.paging import Paging
from bootbuild.machine.rules import STOP_RULE
from bootbuild.model.trace import Event, Stop, StopKind

EVENTS = 1000  #: what is kept of them


class Board:
    """A core on its memory with its platform. `cpu` is what the platform's methods are given."""

    def __init__(self, core: Core, memory: Memory, platform: Platform, cpu: Cpu) -> None:
        self.core = core
        self.memory = memory
        self.paging = Paging(core, memory)
        self.platform = platform
        self.cpu = cpu
        self.events: list[Event] = []
        self.pending: Stop | None = None
        self.calls = 0  #: of the platform, whose state a proof of repetition cannot see
        self.jumped = False  #: the platform has written RIP, if only what it was
        self.probe_now = False  #: a proof of repetition is to be tried as soon as the engine has returned
        self.before_write: Callable[[int, int], None] | None = None
        """Told of each `system_write` before it is done: physical address, size in bytes."""
        self.text = b""  #: that ends the run once the console shows it
        self.deadline = 0.0  #: of time.monotonic
        self._seen = 0
        self._searched = 0
        self.running = False
        self._before = 0  #: instructions of all earlier starts of the engine
        self._at_stop: int | None = None
        self._limit = 0  #: of the present start

    # -- the count -----------------------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        """Instructions begun so far; inside a hook the present one is included."""
        return self._before + self.core.counter if self.running else self._before

    @property
    def stopped(self) -> bool:
        """Whether a stop has been asked for."""
        return self.pending is not None

    @property
    def left(self) -> int:
        """In a hook: instructions that may still be begun before the engine returns."""
        return self._limit - self.core.counter

    def begin(self, limit: int) -> None:
        """The engine is about to be started, for at most so many instructions."""
        self._limit = limit
        self.pending = None
        self._at_stop = None
        self.running = True

    def end(self) -> int:
        """The engine has returned from its start: how many instructions that was."""
        self.running = False
        # Once the limit is reached the engine has counted the instruction that it did not begin.
        count = min(self.core.counter, self._limit) if self._at_stop is None else self._at_stop
        self._before += count
        return count

    def one_more(self) -> None:
        """The instruction before which `pause` left the engine has been executed all the same."""
        self._before += 1

    # -- stopping ------------------------------------------------------------------------------------

    def halt(
        self,
        kind: StopKind,
        detail: str,
        *,
        rule: str = "",
        checkpoint: str = "",
        address: int | None = None,
        physical: int | None = None,
        report: tuple[str, ...] = (),
        begun: bool = True,
    ) -> None:
        """End the run. `begun`: the present instruction counts as executed. The first call wins."""
        if self.pending is not None:
            return
        self.pending = Stop(
            kind=kind,
            ip=self.linear_ip(),
            detail=detail,
            checkpoint=checkpoint,
            rule=rule or STOP_RULE.get(kind, ""),
            address=address,
            physical=physical,
            registers=self.registers(),
            report=report or self.describe(address),
        )
        self._leave(begun)

    def pause(self, begun: bool) -> None:
        """Leave the engine after the present instruction (before it, if not `begun`), to be started again."""
        self._leave(begun)

    @property
    def paused(self) -> bool:
        """Whether the engine returned because of `pause`, not of an end."""
        return self._at_stop is not None and self.pending is None

    def _leave(self, begun: bool) -> None:
        if self.running and self._at_stop is None:
            self._at_stop = self.core.counter - (not begun)
            self.core.stop()

    def take(self) -> Stop:
        """The stop that was asked for."""
        assert self.pending is not None
        stop, self.pending = self.pending, None
        return stop

    def record(self, kind: str, detail: str, rule: str = "") -> None:
        """Note an event; only the first ones are kept."""
        if len(self.events) < EVENTS:
            self.events.append(Event(kind, self.linear_ip(), detail, rule))

    def after_call(self) -> None:
        """The platform was called: stop if it printed what is waited for, or if the time has run out."""
        if self.pending is None:
            self.look_for_text()
            self.out_of_time()

    def wait_for(self, text: bytes) -> None:
        """What the console is to show from now on; what it has shown already does not count."""
        self.text = text
        self._seen = self._searched = len(self.platform.console)

    def look_for_text(self) -> None:
        """Stop if the console shows `text`."""
        console = self.platform.console
        if not self.text or len(console) == self._seen:
            return
        at = console.find(self.text, max(self._searched, self._seen - len(self.text) + 1))
        self._seen = len(console)
        if at >= 0:
            self._searched = at + len(self.text)
            self.halt(StopKind.CONSOLE, f"the console shows {self.text.decode(errors='replace')!r}")

    def out_of_time(self, begun: bool = True) -> bool:
        """Stop if the wall clock has reached the deadline."""
        if time.monotonic() < self.deadline:
            return False
        self.halt(StopKind.TIME, "the wall clock ran out", begun=begun)
        return True

    # -- platform and memory -------------------------------------------------------------------------

    def asks(self, method: Literal["exception", "interrupt"]) -> bool:
        """Whether the platform has such a method of its own. The default one says no, and has no state."""
        own = getattr(self.platform, method)
        return getattr(own, "__func__", None) is not getattr(Platform, method)

    def system_write(self, address: int, data: bytes, user: bool = False) -> None:
        """Write what the core itself writes at a linear address; what ROM drops is an event.

        Raises PageFault, ReservedMemory and LookupError before a byte is written.
        """
        if self.before_write is not None:
            with suppress(LookupError):  # not mapped: PageFault, below
                for physical, size in self.paging.pages(address, len(data)):
                    self.before_write(physical, size)
        for physical, size in self.paging.system_write(address, data, user):
            self.record("rom-write", f"write of {size} bytes at physical {physical:#x}: dropped")

    # -- reports -------------------------------------------------------------------------------------

    def linear_ip(self) -> int:
        """Linear address of the present instruction."""
        self.core.save()
        ip = self.core.general()[16]
        if self.core.code64:
            return ip
        return (self.core.segment("cs").base + ip) & 0xFFFFFFFF

    def registers(self) -> dict[str, int]:
        """Everything that a report shows, by lower-case name."""
        core = self.core
        core.save()
        values = dict(zip((*GENERAL, "rip"), core.general(), strict=True))
        values["rflags"] = core.get("rflags")
        for name in ("cs", "ds", "es", "ss", "fs", "gs", "tr", "ldtr"):
            values[name] = core.segment(name).selector
        values["cs_base"] = core.segment("cs").base
        for name in ("fs", "gs"):
            values[f"{name}_base"] = core.segment(name).base
        for name in ("gdtr", "idtr"):
            table = core.segment(name)
            values[name], values[f"{name}_limit"] = table.base, table.limit
        for name in ("cr0", "cr2", "cr3", "cr4", "efer"):
            values[name] = core.get(name)
        values["cpl"] = core.cpl
        return values

    def describe(self, address: int | None = None) -> tuple[str, ...]:
        """Registers, the bytes at the instruction pointer, and the page walk of `address`."""
        r = self.registers()
        lines = [
            " ".join(f"{name}={r[name]:016x}" for name in names)
            for names in (GENERAL[:4], GENERAL[4:8], GENERAL[8:12], GENERAL[12:])
        ]
        lines.append(f"rip={r['rip']:016x} rflags={r['rflags']:08x} cpl={r['cpl']}")
        lines.append(
            " ".join(f"{name}={r[name]:04x}" for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr"))
            + f" gdtr={r['gdtr']:x}+{r['gdtr_limit']:x} idtr={r['idtr']:x}+{r['idtr_limit']:x}"
        )
        lines.append(" ".join(f"{name}={r[name]:x}" for name in ("cr0", "cr2", "cr3", "cr4", "efer")))
        ip = self.linear_ip()
        try:
            lines.append(f"code at {ip:#x}: {self.paging.read(ip, 16).hex(' ')}")
        except LookupError as error:
            lines.append(f"code at {ip:#x}: {error}")
        for where in dict.fromkeys((ip, address)):
            if where is not None:
                walk = self.paging.walk(where)
                end = "not mapped" if walk.physical is None else f"physical {walk.physical:#x}"
                path = ", ".join(str(step) for step in walk.steps)
                lines.append(f"walk of {where:#x}: {path + ' → ' if path else ''}{end}")
        return tuple(lines)
