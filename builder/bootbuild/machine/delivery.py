"""Exceptions and interrupts through the guest's own tables, which the engine never does.

Source: Intel SDM volume 3A, chapter 6 (6.15 for double faults) and volume 2, INT n. How one attempt goes
through a gate: `gates.py`.
"""

from __future__ import annotations

from bootbuild.machine.board import Board
from bootbuild.machine.gates import DF, GP, HAS_ERROR_CODE, PF, Fault, Gates, name
from bootbuild.machine.paging import PageFault, ReservedMemory
from bootbuild.machine.rules import UNKNOWN_MSR
from bootbuild.model.rule import Rule
from bootbuild.model.trace import StopKind

_CONTRIBUTORY = frozenset((0, 10, 11, 12, 13))
_FIRST_PROBE = 256  #: deliveries after which repetition is looked for; then after four times as many


class Delivery:
    """Puts the core at the guest's handler, or stops it with a triple fault."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._gates = Gates(board)
        self._delivered = 0
        self._next_probe = _FIRST_PROBE

    def interrupt(self, vector: int) -> None:
        """`int n`, INT3 or INTO, for the platform or the guest: the instruction pointer stands after it."""
        board = self._board
        if board.asks("interrupt"):
            board.calls += 1
            if board.platform.interrupt(board.cpu, vector):
                board.after_call()
                return
        self._deliver(vector, 0, software=True)

    def violation(self, rule: Rule, detail: str) -> None:
        """Record what the engine let pass, and raise the #GP(0) that hardware raises there.

        If the guest has no handler it is this rule that the run ends with, not the triple fault. A guest
        that has one may well look whether an MSR is there: that event names no rule.
        """
        probe = rule is UNKNOWN_MSR
        self._board.record("msr" if probe else "violation", f"{detail}: #GP(0)", "" if probe else rule.id)
        self.exception(GP, 0, (rule.id, detail))

    def exception(self, vector: int, code: int = 0, violation: tuple[str, str] = ("", "")) -> None:
        """A fault, for the platform or the guest: the instruction pointer stands at its instruction."""
        board = self._board
        if board.asks("exception"):
            board.calls += 1
            if board.platform.exception(board.cpu, vector, code):
                board.after_call()
                return
        self._deliver(vector, code, violation=violation)

    def _deliver(
        self, vector: int, code: int, *, software: bool = False, violation: tuple[str, str] = ("", "")
    ) -> None:
        board = self._board
        cause = f"{name(vector)} with error code {code:#x}" if vector in HAS_ERROR_CODE else name(vector)
        address = board.core.get("cr2") if vector == PF else None
        report: tuple[str, ...] = ()
        while True:
            try:
                self._gates.enter(vector, code, software)
                self._look_for_repetition()
                return
            except (PageFault, Fault, LookupError, ReservedMemory) as raised:
                problem = raised
            report = report or board.describe(address)  # as it was: an attempt that fails changes no register
            if isinstance(problem, PageFault):
                board.core.set("cr2", problem.address)
                second, code = PF, problem.code
            elif isinstance(problem, Fault):
                second, code = problem.vector, problem.code
            else:
                self._no_memory(problem, cause, report)
                return
            if software:  # whatever its vector, it is benign: the second fault is a first one
                software = False
                self._back_to_instruction(vector)
                vector = second
                continue
            if vector == DF:
                self._shutdown(cause, address, report, violation)
                return
            both = vector in _CONTRIBUTORY and second in _CONTRIBUTORY
            if both or (vector == PF and (second == PF or second in _CONTRIBUTORY)):
                vector, code = DF, 0
            else:
                vector = second

    def _look_for_repetition(self) -> None:
        """A guest that only raises exceptions is not left to it for a million instructions: they are slow."""
        self._delivered += 1
        if self._delivered == self._next_probe:
            self._next_probe *= 4
            self._board.probe_now = True
            self._board.pause(begun=True)

    def _no_memory(self, problem: LookupError | ReservedMemory, cause: str, report: tuple[str, ...]) -> None:
        text = f"{problem}, while {cause} is delivered"
        if isinstance(problem, ReservedMemory):
            physical = problem.physical
            self._board.halt(StopKind.RESERVED_WRITE, text, physical=physical, report=report)
        else:
            self._board.halt(StopKind.OUTSIDE, text, report=report)

    def _back_to_instruction(self, vector: int) -> None:
        """An interrupt that cannot be delivered is a fault of the INT n, INT3, INTO or INT1 itself."""
        board = self._board
        try:
            code = board.paging.read(board.linear_ip() - 2, 2)
        except LookupError:
            code = b""  # at the start of a page, and the one before is not mapped
        size = 2 if code == bytes((0xCD, vector)) else 1
        board.core.set("rip", board.core.get("rip") - size)

    def _shutdown(
        self, cause: str, address: int | None, report: tuple[str, ...], violation: tuple[str, str]
    ) -> None:
        at = "" if address is None else f" for address {address:#x}"
        cause = f"{cause}{at} at {self._board.linear_ip():#x}"
        ending = "could not be delivered, nor the double fault: triple fault"
        rule, what = violation
        if rule:
            detail = f"{what}; {cause} {ending}"
            self._board.halt(StopKind.VIOLATION, detail, rule=rule, report=report)
        else:
            self._board.halt(StopKind.TRIPLE_FAULT, f"{cause} {ending}", address=address, report=report)
