"""The machine: a scene set up on the core, run until something worth telling happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Literal, Self

from bootbuild.api.environment import Scene
from bootbuild.api.machine import Cpuid
from bootbuild.machine import entry
from bootbuild.machine.binding import UcError
from bootbuild.machine.board import Board
from bootbuild.machine.calibrate import Layout, failure
from bootbuild.machine.cpuid import native_cpuid
from bootbuild.machine.delivery import Delivery
from bootbuild.machine.engine import Core
from bootbuild.machine.gates import PF
from bootbuild.machine.memory import Memory
from bootbuild.machine.msr import Msrs
from bootbuild.machine.observe import WINDOW, Coverage, Repetition
from bootbuild.machine.strict import Strict
from bootbuild.machine.strings import Strings
from bootbuild.machine.traps import Traps
from bootbuild.model.machine import Load, RegionKind
from bootbuild.model.span import Span
from bootbuild.model.trace import FOLLOWED, Event, Stop, StopKind

CHUNK = 1 << 20  #: instructions between two looks at the clock
FIRST_PROBE = 1 << 20  #: instructions before the first proof of repetition is tried; then four times as many
_IF = 1 << 9
_ENDINGS = {"shutdown": StopKind.SHUTDOWN, "reset": StopKind.RESET, "crash": StopKind.CRASH}
_SCRATCH = 0xFFFFF000


class Machine:
    """One run of one scene. Close it (or use it as a context manager) to give its memory back at once.

    Raises MachineError when the engine is not the one that this was made for, ValueError for a scene that
    cannot be set up.
    """

    def __init__(self, scene: Scene, layout: Layout | None = None) -> None:
        """`layout`: where the engine keeps its state, if not where calibration finds it."""
        self.scene = scene
        self._memory = Memory(scene.regions, scene.loads, scene.garbage)
        try:
            self._core = Core(layout)
        except BaseException:
            self._memory.close()
            raise
        try:
            self._set_up(scene)
        except BaseException:
            self.close()
            raise

    def _set_up(self, scene: Scene) -> None:
        core = self._core
        self._board = board = Board(core, self._memory, scene.platform, self)
        self._delivery = delivery = Delivery(board)
        self._msrs = msrs = Msrs(board, delivery)
        self._warm_up()
        self._traps = traps = Traps(board, delivery, msrs)
        self._memory.map_into(core, traps.mmio_read, traps.mmio_write)
        self._strict = Strict(board, delivery, msrs)
        self._coverage = Coverage(board, self._strict)
        self._strings = Strings(board, self._coverage)
        self._repetition = Repetition(board)
        self._next_probe = FIRST_PROBE
        self._checkpoints: dict[int, str] = {}
        self._follow: Callable[[int, bytes], bool] | None = None
        self._coverage.watchers.append(self._about_to_run)
        self._hooked: set[int] = set()
        self._retyped: list[tuple[Span, RegionKind]] = []
        self._standing_on: int | None = None
        self._resumed_at = -1
        entry.enter(core, scene.state)

    def _warm_up(self) -> None:
        """Execute one jump where nothing is, before anything is mapped.

        The engine reports a new block only if one ran before it, and its counting hook must be the first
        one of its kind.
        """
        engine = self._core.uc
        engine.mem_map(_SCRATCH, 0x1000)
        engine.mem_write(_SCRATCH, b"\xeb\x00\xf4")  # jmp .+2; hlt
        self._core.start(_SCRATCH, 2)
        engine.mem_unmap(_SCRATCH, 0x1000)

    # -- running -------------------------------------------------------------------------------------

    def run(
        self,
        *,
        checkpoints: Mapping[int, str],
        budget: int,
        seconds: float,
        console: bytes = b"",
        follow: Callable[[int, bytes], bool] | None = None,
    ) -> Stop:
        """Run on from where the machine stands.

        `checkpoints`: linear address → name; the run ends when one is about to be executed, but not
        the one on which it stands. `budget`: instructions in all runs of this machine together.
        `seconds`: wall time of this run. `console`: text that ends the run once the platform's console
        shows it (each occurrence once). `follow` is asked before each block is executed for the first time
        (linear address, bytes); if it says so, the run ends there, with checkpoint FOLLOWED.
        """
        board = self._board
        self._follow = follow
        self._watch(checkpoints)
        board.wait_for(console)
        board.deadline = time.monotonic() + seconds
        board.pending = None
        self._resumed_at = board.instructions
        board.look_for_text()
        while not board.stopped:
            left = budget - board.instructions
            if left <= 0:
                board.halt(StopKind.BUDGET, f"{board.instructions} instructions were executed")
            elif self._traps.wrote_rom:
                with self._traps.dropping_writes() as again:
                    if again:
                        self._execute(1)
                    else:
                        board.one_more()
            elif board.probe_now:
                self._probe(left)
            elif board.instructions >= self._next_probe:
                self._next_probe *= 4
                self._probe(left)
            else:
                self._execute(min(left, CHUNK, self._next_probe - board.instructions))
                board.out_of_time()
        return board.take()

    def _watch(self, checkpoints: Mapping[int, str]) -> None:
        self._checkpoints = dict(checkpoints)
        new = self._checkpoints.keys() - self._hooked
        for address in new:
            self._core.hook_address(address, self._reached)
        self._hooked |= new
        if new and self._board.instructions:
            self._core.forget_all_code()

    def _about_to_run(self, address: int, code: bytes) -> bool:
        """A block is about to run; True if it must be translated anew, so that it stops there."""
        if self._follow is None or address in self._checkpoints or not self._follow(address, code):
            return False
        self._checkpoints[address] = FOLLOWED
        if address in self._hooked:
            return False
        self._core.hook_address(address, self._reached)
        self._hooked.add(address)
        return True

    def _reached(self, _uc: object, address: int, _size: int, _data: object) -> None:
        board = self._board
        if address not in self._checkpoints:
            return
        first = board.instructions == self._resumed_at + 1
        if first and address == self._standing_on:
            return
        self._standing_on = address
        label = self._checkpoints[address]
        board.halt(StopKind.CHECKPOINT, f"reached {label}", checkpoint=label, begun=False)

    def _probe(self, left: int) -> None:
        self._board.probe_now = False
        self._repetition.start()
        try:
            self._execute(min(left, WINDOW))
        finally:
            self._repetition.finish()

    def _execute(self, limit: int) -> None:
        """Start the engine once, for at most `limit` instructions."""
        board, core = self._board, self._core
        while self._retyped:
            self._memory.retype(core, *self._retyped.pop(0))
        self._coverage.resume_at(board.linear_ip())
        core.forget_exception()
        core.restore()
        error: UcError | None = None
        board.begin(limit)
        try:
            core.start(core.get("rip"), limit)
        except UcError as raised:
            error = raised
        counter = core.counter
        paused = board.paused
        count = board.end()
        core.surface()
        if board.stopped:
            return
        if error is not None and not paused:
            raise failure(f"the engine gave up at {board.linear_ip():#x}: {error}")
        if counter <= limit and count and not paused:
            self._halted()

    def _halted(self) -> None:
        board = self._board
        if self._core.get("rflags") & _IF:
            board.halt(StopKind.IDLE, "HLT with interrupts on, and nothing delivers one")
        else:
            board.halt(StopKind.HALTED, "HLT with interrupts off")

    # -- what a platform and a guest protocol see ------------------------------------------------------

    @property
    def instructions(self) -> int:
        """Executed so far, exactly; each iteration of a repeated string instruction is one.

        A store that changes the block it stands in is begun twice by the engine, and counted so.
        """
        return self._board.instructions

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """(linear address, size in bytes) in order of first execution."""
        return self._coverage.blocks

    @property
    def events(self) -> tuple[Event, ...]:
        """The first events of the run."""
        return tuple(self._board.events)

    def get(self, register: str) -> int:
        """A register by its lower-case name; segment names give the selector. See `Cpu.get`."""
        if register in ("cpl", "code64"):
            self._core.save()
            return int(self._core.cpl if register == "cpl" else self._core.code64)
        if register.endswith("_limit"):
            self._core.save()
            return self._core.segment(register.removesuffix("_limit")).limit
        if register == "tsc":
            return self._msrs.now
        if register in ("tr", "ldtr"):
            self._core.save()
            return self._core.segment(register).selector
        return self._core.get(register)

    def general(self) -> tuple[int, ...]:
        """The sixteen general registers, in the order of their encoding."""
        return self._core.general_now()

    def registers(self) -> Mapping[str, int]:
        """All that a report shows: general and control registers, selectors, tables."""
        return self._board.registers()

    def set(self, register: str, value: int) -> None:
        """Write a general, control or flags register."""
        self._board.jumped = self._board.jumped or register == "rip"
        self._core.set(register, value)

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a linear address. LookupError if not mapped."""
        return self._board.paging.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Bytes at a linear address. LookupError if not mapped."""
        for physical, size in self._board.paging.pages(address, len(data)):
            self.write_physical(physical, data[:size])
            data = data[size:]

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. LookupError where there is no memory."""
        return self._memory.read(address, size)

    def write_physical(self, address: int, data: bytes) -> None:
        """Bytes at a physical address. LookupError where there is no memory."""
        self._memory.write(address, data)
        if data:
            self._coverage.host_wrote(address, len(data))
            self._core.flush_tlb()  # page tables may have changed

    def translate(self, address: int) -> int | None:
        """Physical address of a linear one; None if not mapped."""
        return self._board.paging.walk(address).physical

    def page_fault(self, address: int, code: int) -> None:
        """Between two runs: the guest's next instruction raises #PF for a linear address, once."""
        self._core.set("cr2", address)
        self._delivery.exception(PF, code)

    def first_change(self, load: Load) -> int | None:
        """Physical address of the first byte that is not a load's; None if all are. LookupError."""
        return self._memory.first_change(load)

    @property
    def code_width(self) -> int:
        """16, 32 or 64: of the code that CS and EFER.LMA select."""
        self._core.save()
        if self._core.code64:
            return 64
        return 32 if self._core.segment("cs").big else 16

    def cpuid(self, leaf: int, subleaf: int) -> Cpuid:
        """What the bare core answers."""
        return native_cpuid(leaf, subleaf)

    def writable(self, span: Span) -> bool:
        """Whether all of a physical range is RAM that the guest may write."""
        return self._memory.all_ram(span)

    def retype(self, span: Span, kind: RegionKind) -> None:
        """Make physical memory another kind before the next instruction."""
        self._retyped.append((span, kind))
        self._board.pause(begun=True)

    def stop(self, kind: Literal["shutdown", "reset", "crash"], detail: str, rule: str = "") -> None:
        """End the run after the present call: the guest asked for it, or broke `rule`."""
        self._board.halt(_ENDINGS[kind], detail, rule=rule)

    def record(self, kind: str, detail: str, rule: str = "") -> None:
        """Note an event."""
        self._board.record(kind, detail, rule)

    def describe(self) -> tuple[str, ...]:
        """Registers, code and page walk as lines."""
        return self._board.describe()

    # ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give all memory back now."""
        self._core.close()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
