"""From one exception to the guest's handler: the gate, the descriptors and the stack, in each of three modes.

Source: Intel SDM volume 3A, chapter 6 (6.12 and 6.14 for the frames).
"""

from __future__ import annotations

import struct
from contextlib import suppress

from bootbuild.machine.board import Board
from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.engine import EFER_LMA, Segment
from bootbuild.machine.paging import CR0_PE, ReservedMemory

UD, DF, TS, NP, SS, GP, PF = 6, 8, 10, 11, 12, 13, 14
HAS_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17, 21))
_NAMES = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS",
    11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM", 21: "#CP",
}  # fmt: skip
_TF, _IF, _NT, _RF, _VM, _AC = 1 << 8, 1 << 9, 1 << 14, 1 << 16, 1 << 17, 1 << 18
_NO_FAULT = frozenset((1, 2, DF, 18))  #: traps and aborts: RF is pushed as it was
_RSP = GENERAL.index("rsp")
_ACCESSED = 1 << 8  #: of a descriptor's second doubleword (SDM 3A, 3.4.5.1)


class Fault(Exception):
    """An exception that arose while another one was delivered."""

    def __init__(self, vector: int, code: int) -> None:
        super().__init__(name(vector))
        self.vector = vector
        self.code = code


def name(vector: int) -> str:
    """How the manuals call a vector."""
    return _NAMES.get(vector, f"interrupt {vector:#x}")


class Gates:
    """The guest's interrupt descriptor table, or in real mode its vector table, and what it leads to."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def enter(self, vector: int, code: int, software: bool) -> None:
        """One attempt. Raises Fault or PageFault with nothing changed but accessed bits of descriptors."""
        core = self._board.core
        core.save()
        if not core.get("cr0") & CR0_PE:
            self._enter_real(vector)
        elif core.get("efer") & EFER_LMA:
            self._enter_long(vector, code, software)
        else:
            self._enter_protected(vector, code, software)

    def _enter_real(self, vector: int) -> None:
        board, core = self._board, self._board.core
        table = core.segment("idtr")
        if vector * 4 + 3 > table.limit:
            raise Fault(GP, 0)
        offset, selector = struct.unpack("<HH", board.paging.system_read(table.base + vector * 4, 4))
        general, flags = core.general(), core.get("rflags")
        code = core.segment("cs")
        frame = struct.pack("<3H", general[16] & 0xFFFF, code.selector, flags & 0xFFFF)
        sp = general[_RSP] - len(frame) & 0xFFFF
        board.system_write(core.segment("ss").base + sp, frame)
        core.put_general(_RSP, general[_RSP] & ~0xFFFF | sp)
        core.put_segment("cs", Segment(selector, selector << 4, code.limit, code.flags))
        self._arrive(offset, flags & ~(_IF | _TF | _RF | _AC), 0)

    def _enter_long(self, vector: int, code: int, software: bool) -> None:
        board, core = self._board, self._board.core
        external, cpl = 0 if software else 1, core.cpl
        gate = self._gate(vector, 16, (0xE, 0xF), software)
        low, selector, ist, kind, middle, high = struct.unpack("<HHBBHI4x", gate)
        target = self._code_segment(selector, cpl, external)
        if not target.long or target.big:
            raise Fault(GP, selector & ~3 | external)
        target = self._accessed(target)
        offset = low | middle << 16 | high << 32
        _canonical(offset, GP, external)
        new_cpl = cpl if target.flags & 0x400 else target.dpl
        general, flags, stack = core.general(), core.get("rflags"), core.segment("ss")
        if ist & 7:
            rsp = self._task_state(0x24 + 8 * ((ist & 7) - 1), 8, external)
        elif new_cpl < cpl:
            rsp = self._task_state(4 + 8 * new_cpl, 8, external)
        else:
            rsp = general[_RSP]
        saved = _saved_flags(flags, vector, software)
        frame = [general[16], core.segment("cs").selector, saved, general[_RSP], stack.selector]
        if vector in HAS_ERROR_CODE and not software:
            frame.insert(0, code)
        rsp = (rsp & ~15) - 8 * len(frame)
        _canonical(rsp, SS, external)
        board.system_write(rsp, struct.pack(f"<{len(frame)}Q", *frame), user=new_cpl == 3)
        core.put_general(_RSP, rsp)
        core.put_segment("cs", _with_rpl(target, selector, new_cpl))
        if new_cpl < cpl:
            core.put_segment("ss", Segment(new_cpl, 0, 0xFFFFFFFF, 0x00C09300 | new_cpl << 13))
        self._arrive(offset, _handler_flags(flags, kind), new_cpl)

    def _enter_protected(self, vector: int, code: int, software: bool) -> None:
        board, core = self._board, self._board.core
        external, cpl = 0 if software else 1, core.cpl
        # Task gates (5) and virtual 8086 mode are not made: no boot protocol leads there.
        gate = self._gate(vector, 8, (6, 7, 0xE, 0xF), software)
        low, selector, kind, high = struct.unpack("<HHxBH", gate)
        wide = bool(kind & 8)
        target = self._accessed(self._code_segment(selector, cpl, external))
        new_cpl = cpl if target.flags & 0x400 else target.dpl
        general, flags, stack = core.general(), core.get("rflags"), core.segment("ss")
        frame = [general[16], core.segment("cs").selector, _saved_flags(flags, vector, software)]
        if vector in HAS_ERROR_CODE and not software:
            frame.insert(0, code)
        esp, new_stack = general[_RSP], stack
        if new_cpl < cpl:
            frame += [general[_RSP], stack.selector]
            esp = self._task_state(4 + 8 * new_cpl, 4, external)
            ss = self._task_state(8 + 8 * new_cpl, 4, external) & 0xFFFF
            new_stack = self._accessed(self._stack_segment(ss, new_cpl, external))
        size, letter = (4, "I") if wide else (2, "H")
        words = [value & (1 << 8 * size) - 1 for value in frame]
        mask = 0xFFFFFFFF if new_stack.big else 0xFFFF
        top = esp - size * len(words) & mask
        data = struct.pack(f"<{len(words)}{letter}", *words)
        board.system_write((new_stack.base + top) & 0xFFFFFFFF, data, user=new_cpl == 3)
        core.put_general(_RSP, esp & 0xFFFFFFFF & ~mask | top)
        core.put_segment("cs", _with_rpl(target, selector, new_cpl))
        core.put_segment("ss", new_stack)
        offset = low | (high << 16 if wide else 0)
        self._arrive(offset, _handler_flags(flags, kind), new_cpl)

    # -- descriptors ---------------------------------------------------------------------------------

    def _gate(self, vector: int, size: int, types: tuple[int, ...], software: bool) -> bytes:
        """The gate of a vector, `size` bytes, of one of `types`. `software`: only if its privilege allows."""
        board, core = self._board, self._board.core
        table = core.segment("idtr")
        selects = vector * 8 + 2 + (0 if software else 1)
        if vector * size + size - 1 > table.limit:
            raise Fault(GP, selects)
        gate = board.paging.system_read(table.base + vector * size, size)
        if gate[5] & 0x1F not in types or (software and gate[5] >> 5 & 3 < core.cpl):
            raise Fault(GP, selects)
        if not gate[5] & 0x80:
            raise Fault(NP, selects)
        return gate

    def _code_segment(self, selector: int, cpl: int, external: int) -> Segment:
        segment = self._descriptor(selector, GP, external)
        if segment.flags & 0x1800 != 0x1800 or segment.dpl > cpl:
            raise Fault(GP, selector & ~3 | external)
        if not segment.flags & 0x8000:
            raise Fault(NP, selector & ~3 | external)
        return segment

    def _stack_segment(self, selector: int, cpl: int, external: int) -> Segment:
        segment = self._descriptor(selector, TS, external)
        writable_data = segment.flags & 0x1A00 == 0x1200
        if not writable_data or segment.dpl != cpl or selector & 3 != cpl:
            raise Fault(TS, selector & ~3 | external)
        if not segment.flags & 0x8000:
            raise Fault(SS, selector & ~3 | external)
        return segment

    def _accessed(self, segment: Segment) -> Segment:
        """The segment as it is loaded: its descriptor's accessed bit is set, in the table too."""
        if segment.flags & _ACCESSED:
            return segment
        flags = segment.flags | _ACCESSED
        table = self._board.core.segment("ldtr" if segment.selector & 4 else "gdtr")
        with suppress(ReservedMemory):  # the environment's own table is not the guest's to change
            self._board.system_write(table.base + (segment.selector & ~7) + 5, bytes([flags >> 8 & 0xFF]))
        return segment._replace(flags=flags)

    def _descriptor(self, selector: int, vector: int, external: int) -> Segment:
        board, core = self._board, self._board.core
        if not selector & ~3:
            raise Fault(vector, external)
        table = core.segment("ldtr" if selector & 4 else "gdtr")
        if (selector & ~7) + 7 > table.limit:
            raise Fault(vector, selector & ~3 | external)
        return descriptor(selector, board.paging.system_read(table.base + (selector & ~7), 8))

    def _task_state(self, offset: int, size: int, external: int) -> int:
        """A stack pointer or selector from the task state segment."""
        task = self._board.core.segment("tr")
        if offset + size - 1 > task.limit or not task.flags & 0x8000:
            raise Fault(TS, task.selector & ~3 | external)
        return int.from_bytes(self._board.paging.system_read(task.base + offset, size), "little")

    def _arrive(self, offset: int, flags: int, cpl: int) -> None:
        core = self._board.core
        long = bool(core.get("efer") & EFER_LMA)
        core.put_ip(offset)
        core.put_mode(cpl, long, bool(core.get("cr0") & CR0_PE))
        core.forget_exception()
        core.restore()
        core.set("rflags", flags)
        core.set("rip", offset)  # leaves the block that is running, where there is one


def descriptor(selector: int, raw: bytes) -> Segment:
    """A descriptor as it lies in a table (SDM 3A, figure 3-8)."""
    low, high = struct.unpack("<II", raw)
    base = low >> 16 | (high & 0xFF) << 16 | high & 0xFF000000
    limit = low & 0xFFFF | high & 0xF0000
    if high & 1 << 23:
        limit = limit << 12 | 0xFFF
    return Segment(selector, base, limit, high & 0x00F0FF00)


def _with_rpl(segment: Segment, selector: int, cpl: int) -> Segment:
    return Segment(selector & ~3 | cpl, segment.base, segment.limit, segment.flags)


def _handler_flags(flags: int, kind: int) -> int:
    """Flags at the handler's first instruction: an interrupt gate (even type) also clears IF."""
    return flags & ~(_TF | _NT | _RF | _VM | (0 if kind & 1 else _IF))


def _saved_flags(flags: int, vector: int, software: bool) -> int:
    """Flags in the frame: a fault sets RF, for its instruction to be executed again (SDM 3B, 17.3.1.1)."""
    return flags if software or vector in _NO_FAULT else flags | _RF


def _canonical(address: int, vector: int, code: int) -> None:
    if (address & 0xFFFFFFFFFFFFFFFF) >> 47 not in (0, 0x1FFFF):
        raise Fault(vector, code)
