"""What was executed: the blocks in the order in which they first ran, and the proof that nothing goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bootbuild.machine.binding import uc
from bootbuild.machine.block import PAGE
from bootbuild.machine.board import Board
from bootbuild.machine.engine import EFER_LMA
from bootbuild.machine.rules import BAD_CODE_SEGMENT
from bootbuild.machine.strict import Strict
from bootbuild.model.trace import StopKind

WINDOW = 512  #: instructions in which a state must come back to count as a loop


class Coverage:
    """First executions of blocks; also hands each new block to the strictness scan."""

    def __init__(self, board: Board, strict: Strict) -> None:
        self._board = board
        self._seen: dict[int, int] = {}
        self._starts: dict[int, list[int]] = {}  #: linear page → blocks that start in it
        self._resumed: int | None = None
        self._code: dict[int, set[int]] = {}  #: physical page → linear addresses of blocks in it
        self.watchers: list[Callable[[int, bytes], bool]] = [strict.watch]
        """Told of each block before it runs, linear address and bytes; True: it must be translated anew."""
        board.core.hook(uc.UC_HOOK_EDGE_GENERATED, self._translated)

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """(linear address, size in bytes) of each block, in order of first execution."""
        return tuple(self._seen.items())

    def resume_at(self, address: int) -> None:
        """The engine is about to be started at `address`.

        If that is inside a block which was left half done, the engine translates the rest of it as if it
        were a block; it is not listed.
        """
        page = address // PAGE  # the engine ends a block at the second page that it touches
        inside = any(
            start < address < start + self._seen[start]
            for start in (*self._starts.get(page - 1, ()), *self._starts.get(page, ()))
        )
        self._resumed = address if inside and address not in self._seen else None

    def ran(self, address: int, size: int) -> None:
        """A block was executed that the engine need not have translated for it."""
        if address not in self._seen:
            self._seen[address] = size
            self._starts.setdefault(address // PAGE, []).append(address)

    def replace(self, physical: int, size: int) -> bool:
        """The host is about to write while the engine runs: forget what was translated from there.

        False: it cannot be forgotten, since it is no longer mapped where it ran.
        """
        pages = [page for page in _pages(physical, size) if page in self._code]
        for page in pages:
            for address in self._code[page]:
                at = self._board.paging.walk(address).physical
                last = self._board.paging.walk(address + self._seen.get(address, 1) - 1).physical
                if at is None or last is None or page not in (at // PAGE, last // PAGE):
                    return False
        if pages:
            self.host_wrote(physical, size)
        return True

    def host_wrote(self, physical: int, size: int) -> None:
        """The host changed memory: what was translated from those pages must be translated anew."""
        core = self._board.core
        for page in _pages(physical, size):
            for address in self._code.pop(page, ()):
                core.forget_code(address, self._seen.get(address, 1))

    def _translated(self, _uc: object, block: Any, _previous: object, _data: object) -> None:
        address, size = block.pc, block.size
        if address == self._resumed:
            self._resumed = None
        else:
            self.ran(address, size)
        self._judge(address, size)
        self._board.out_of_time()  # a block can take milliseconds, and a million of them run once each

    def _judge(self, address: int, size: int) -> None:
        """Look at a block's code segment and its bytes before it runs."""
        board = self._board
        board.core.save()
        segment = board.core.segment("cs")
        if segment.long and segment.big and board.core.get("efer") & EFER_LMA:
            board.halt(
                StopKind.VIOLATION,
                f"CS holds selector {segment.selector:#x}, whose descriptor has both L and D set",
                rule=BAD_CODE_SEGMENT.id,
            )
            return
        try:
            pages = board.paging.pages(address, size)
            code = b"".join(board.memory.read(at, part) for at, part in pages)
        except LookupError:
            return
        for physical, _ in pages:
            self._code.setdefault(physical // PAGE, set()).add(address)
        new = [watch(address, code) for watch in self.watchers]
        if any(new):
            board.core.forget_code(address, size)
            board.core.redo()


def _pages(physical: int, size: int) -> range:
    return range(physical // PAGE, (physical + size - 1) // PAGE + 1)


class Repetition:
    """Looks for a state that comes back: same registers, same memory, and nobody outside asked."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def start(self) -> None:
        """Watch the next `WINDOW` instructions; call `finish` after they have run."""
        core = self._board.core
        self._first: tuple[int, bytes] | None = None
        self._start = 0
        self._calls = self._board.calls
        self._before: dict[int, int] = {}
        self._hooks = [
            core.hook(uc.UC_HOOK_CODE, self._step),
            core.hook(uc.UC_HOOK_MEM_WRITE, lambda _uc, _how, at, size, _value, _data: self._write(at, size)),
        ]
        self._board.before_write = self._write
        core.forget_all_code()

    def finish(self) -> None:
        """Take the hooks away again."""
        self._board.before_write = None
        for handle in self._hooks:
            self._board.core.unhook(handle)
        self._board.core.forget_all_code()

    def _step(self, _uc: object, address: int, _size: int, _data: object) -> None:
        board = self._board
        if board.stopped or board.calls != self._calls:
            return
        if self._first is not None and address != self._start:
            return
        board.core.save()
        state = (board.core.get("rflags"), board.core.fingerprint())
        if self._first is None:
            self._first, self._start = state, address
        elif state == self._first and self._memory_is_back():
            board.halt(
                StopKind.LOOP,
                f"the machine is back in the state that it was in at {address:#x}: it will never go on",
                begun=False,
            )

    def _write(self, address: int, size: int) -> None:
        for at in range(address, address + size):
            if at not in self._before:
                value = self._board.memory.word(at, 1)
                self._before[at] = -1 if value is None else value

    def _memory_is_back(self) -> bool:
        memory = self._board.memory
        return all(memory.word(at, 1) == value for at, value in self._before.items())
