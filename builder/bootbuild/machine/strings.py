"""Long repeated string instructions (REP MOVS, REP STOS): the host does their iterations at once.

It leaves what the engine would have left: the same bytes, registers, blocks and count. Of every instruction
the engine does the last iteration itself, and the first one on each page that was not accessed before: all
faults, accessed and dirty bits are its own. So is everything where the host is not certain.

Source: Intel SDM volume 2, REP, MOVS and STOS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bootbuild.machine.block import PAGE
from bootbuild.machine.board import Board
from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.observe import Coverage
from bootbuild.machine.operand import code_bits
from bootbuild.machine.paging import CR0_WP, Walk
from bootbuild.model.machine import RegionKind

_SITE = re.compile(rb"\xf3(?:\x48[\xa5\xab]|[\xa4\xa5\xaa\xab])")
_FEWEST = 48  #: iterations from which this is faster than the engine
_MOST = 2 << 20  #: bytes at a time
_SHORT = 4096  #: bytes of a pattern that is better repeated than copied again and again
_PATIENCE = 63  #: iterations after which the host looks again, where it often could do none
_RAX, _RCX, _RSI, _RDI = (GENERAL.index(name) for name in ("rax", "rcx", "rsi", "rdi"))
_TF, _DF = 1 << 8, 1 << 10
_BREAKPOINTS = 0xFF  #: of DR7: their L and G bits
_ACCESSED, _DIRTY = 1 << 5, 1 << 6


@dataclass(frozen=True)
class _Run:
    """Elements that lie in one page, and one behind the other: from the present one, in its direction."""

    physical: int  #: of the present element
    count: int


class Strings:
    """Installs and serves the one-address hooks of one machine."""

    def __init__(self, board: Board, coverage: Coverage) -> None:
        self._board = board
        self._coverage = coverage
        self._hooked: set[int] = set()
        self._left_alone: dict[int, tuple[int, int]] = {}
        """By address: how often it is left to the engine now, and how often after the next failure."""
        coverage.watchers.append(self._watch)

    def _watch(self, start: int, code: bytes) -> bool:
        """Look through a block at linear address `start`; True if it must be translated anew.

        A hit that is not the start of an instruction never fires.
        """
        new = {start + site.start() for site in _SITE.finditer(code)} - self._hooked
        for address in new:
            self._board.core.hook_address(address, self._execute)
        self._hooked |= new
        return bool(new)

    def _execute(self, _uc: object, address: int, _size: int, _data: object) -> None:
        board, core = self._board, self._board.core
        wait, longer = self._left_alone.get(address, (0, 0))
        if wait:
            self._left_alone[address] = wait - 1, longer
            return
        core.save()
        general, bits = core.general(), code_bits(core)
        mask = (1 << bits) - 1
        left = min((general[_RCX] & mask) - 1, board.left)
        if left < _FEWEST or bits == 16 or board.stopped or board.paused or not self._plain(bits):
            return
        code = board.paging.read(address, 3) if board.paging.walk(address + 2).physical is not None else b""
        site = _SITE.match(code)
        if not site or (code[1] == 0x48 and bits != 64):
            return
        opcode = code[site.end() - 1]
        size = 8 if code[1] == 0x48 else 4 if opcode & 1 else 1
        step = -size if core.get("rflags") & _DF else size
        to, source = general[_RDI] & mask, general[_RSI] & mask if opcode < 0xAA else None
        done = 0
        while done < left:
            count = self._some(address, to, source, left - done, step, general[_RAX])
            if not count:
                break
            done, to = done + count, to + count * step
            source = None if source is None else source + count * step
        if not done:
            self._left_alone[address] = longer, min(2 * longer + 1, _PATIENCE)
            return
        self._left_alone.pop(address, None)
        self._coverage.ran(address, site.end())
        core.count(done)
        core.set("rcx", general[_RCX] - done)
        core.set("rdi", to & mask)
        if source is not None:
            core.set("rsi", source & mask)

    def _plain(self, bits: int) -> bool:
        """Whether offsets are linear addresses, and nobody looks between two iterations."""
        board, core = self._board, self._board.core
        if board.before_write is not None or core.get("rflags") & _TF or core.get("dr7") & _BREAKPOINTS:
            return False
        return bits == 64 or not (core.segment("es").base or core.segment("ds").base)

    def _some(self, ip: int, to: int, source: int | None, most: int, step: int, value: int) -> int:
        """Do up to `most` iterations; how many, 0 where the next one is the engine's."""
        memory, size = self._board.memory, abs(step)
        target = self._run(to, most, step, write=True)
        if target is None:
            return 0
        count, back = target.count, step < 0
        origin = None if source is None else self._run(source, count, step, write=False)
        if source is not None and origin is None:
            return 0
        if origin is not None:
            count = origin.count
            apart = (origin.physical - target.physical) * (1 if back else -1)
            if 0 < apart < count * size:  # it reads what it has written
                if apart < _SHORT and apart % size == 0 and not back:
                    return self._repeat(ip, target.physical, count, apart, size)
                count = apart // size
        lowest = target.physical - (count - 1) * size * back
        if not count or not self._free_of_code(ip, lowest, count * size):
            return 0
        if origin is None:
            memory.fill(lowest, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), count)
        else:
            memory.move(lowest, origin.physical - (count - 1) * size * back, count * size)
        return count

    def _repeat(self, ip: int, physical: int, count: int, apart: int, size: int) -> int:
        """MOVS onto what lies `apart` bytes before: that is repeated. As `_some`."""
        if not self._free_of_code(ip, physical, count * size):
            return 0
        times = count * size // apart
        self._board.memory.fill(physical, self._board.memory.read(physical - apart, apart), times)
        return times * apart // size

    def _run(self, linear: int, most: int, step: int, write: bool) -> _Run | None:
        """What can be reached from `linear` on; None where the engine has to do the next iteration."""
        walk, size = self._board.paging.walk(linear), abs(step)
        if walk.physical is None or not self._accessed(walk, write):
            return None
        region = self._board.memory.region(walk.physical)
        if region is None or region.kind is RegionKind.MMIO or (write and region.kind is not RegionKind.RAM):
            return None
        inside = linear & walk.size - 1
        piece = self._board.memory.backing(walk.physical)  # a region may be made of several
        after = min(walk.size - inside, min(region.span.end, piece.end) - walk.physical)
        before = min(inside, walk.physical - max(region.span.start, piece.start))
        if after < size:
            return None
        room = before // size + 1 if step < 0 else after // size
        return _Run(walk.physical, min(most, room, _MOST // size))

    def _accessed(self, walk: Walk, write: bool) -> bool:
        """Whether the access is allowed, and would set no bit in a table."""
        core = self._board.core
        user = core.cpl == 3
        if user and not walk.user:
            return False
        if write and not walk.writable and (user or core.get("cr0") & CR0_WP):
            return False
        pae = bool(walk.steps) and walk.steps[0].table == "PDPT"  # whose pointers have no such bits
        entries = [step.entry or 0 for step in walk.steps[pae:]]
        if write and entries and not entries[-1] & _DIRTY:
            return False
        return all(entry & _ACCESSED for entry in entries)

    def _free_of_code(self, ip: int, physical: int, size: int) -> bool:
        """Whether code was translated from there, or it could be forgotten."""
        here = self._board.paging.walk(ip).physical
        if here is None or physical - PAGE < here < physical + size:
            return False
        return self._coverage.replace(physical, size)
