"""Where hardware faults and the engine does not: found when a block is translated, judged when it runs.

A block's bytes are searched for the few opcodes concerned, and a hook is put on the one address of each
hit. A hit that is not an instruction start never fires.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from bootbuild.machine import ports
from bootbuild.machine.board import Board
from bootbuild.machine.delivery import GP, PF, UD, Delivery
from bootbuild.machine.engine import EFER_LMA
from bootbuild.machine.memory import PAGE
from bootbuild.machine.msr import Msrs, canonical
from bootbuild.machine.operand import PREFIXES, Instruction, decode, operand
from bootbuild.machine.paging import CR0_PE, CR0_PG, CR4_PAE, PageFault
from bootbuild.machine.rules import (
    BAD_CR0,
    BAD_CR3,
    BAD_CR4,
    MISALIGNED,
    NON_CANONICAL,
    RDPMC,
)
from bootbuild.model.rule import Rule

_SCAN = re.compile(rb"\x0f[\x01\x22\x28\x29\x30\x32\x33\x6f\x7f\xc7]")
_PREFIX_REACH = 14  #: prefixes before an opcode that are looked at: an instruction has 15 bytes at most
_MOVES = frozenset((0x28, 0x29, 0x6F, 0x7F))
_ANY_LEVEL = _MOVES | {0xC7}  #: not privileged; the others raise #GP in the engine where they are not allowed
_TRUSTED_AFTER = 256  #: executions with an aligned operand, after which a site is no longer watched
_CR0_NW, _CR0_CD = 1 << 29, 1 << 30
_CR0_EM, _CR0_TS, _CR4_OSFXSR = 1 << 2, 1 << 3, 1 << 9
_EFER_LME = 1 << 8
_WIDTH = 40  #: physical address bits that CPUID leaf 80000008H of this core reports
CR4_DEFINED = 0x7FC | 1 << 16 | 1 << 18 | 1 << 20
"""TSD … OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP: what CPUID of this core reports."""


def sites(code: bytes, long: bool) -> list[int]:
    """Offsets at which an instruction may start that has to be judged."""
    found: list[int] = []
    for match in _SCAN.finditer(code):
        at = match.start()
        opcode = code[at + 1]
        modrm = code[at + 2] if at + 2 < len(code) else 0
        if opcode in _MOVES and modrm >= 0xC0:
            continue  # register to register
        if opcode == 0x01 and (modrm >= 0xC0 or modrm >> 3 & 7 not in (2, 3) or not long):
            continue  # neither LGDT nor LIDT, or with a base of 32 bits
        if opcode == 0xC7 and modrm < 0xF0:
            continue  # neither RDRAND nor RDSEED
        mandatory = opcode in (0x6F, 0x7F)
        if not mandatory:
            found.append(at)
        for back in range(1, _PREFIX_REACH + 1):
            if at < back:
                break
            before = code[at - back]
            is_rex = long and back == 1 and before & 0xF0 == 0x40
            if not is_rex and before not in PREFIXES:
                break
            if not mandatory or 0x66 in code[at - back : at]:
                found.append(at - back)
    return found


class Strict:
    """Installs and serves the one-address hooks of one machine."""

    def __init__(self, board: Board, delivery: Delivery, msrs: Msrs) -> None:
        self._board = board
        self._delivery = delivery
        self._msrs = msrs
        self._hooks: dict[int, int] = {}
        self._ports: set[int] = set()
        self._aligned: dict[int, int] = {}
        self.retired: list[int] = []  #: hook handles that may go between two starts
        self._checks: dict[int, Callable[[int, Instruction], None]] = {
            0x01: self._load_table,
            0x22: self._move_to_control,
            0x28: self._aligned_move,
            0x29: self._aligned_move,
            0x30: lambda _at, found: self._advance(self._msrs.wrmsr(), found),
            0x32: lambda _at, found: self._advance(self._msrs.rdmsr(), found),
            0x33: lambda _at, _found: self._delivery.violation(RDPMC, "RDPMC"),
            0x6F: self._aligned_move,
            0x7F: self._aligned_move,
            0xC7: lambda _at, _found: self._delivery.exception(UD),
        }

    def watch(self, start: int, code: bytes) -> bool:
        """Look through a block at linear address `start`; True if it must be translated anew."""
        core = self._board.core
        new = False
        for offset in sites(code, core.code64):
            address = start + offset
            if address not in self._hooks:
                self._hooks[address] = core.hook_address(address, self._execute)
                new = True
        for match in ports.SITES.finditer(code) if core.cpl else ():
            # the opcode may have prefixes: only the instruction's first byte is one that executes
            for address in range(start + max(0, match.start() - _PREFIX_REACH), start + match.start() + 1):
                if address not in self._ports:
                    self._ports.add(address)
                    core.hook_address(address, self._port)
                    new = True
        return new

    def _port(self, _uc: object, address: int, _size: int, _data: object) -> None:
        board = self._board
        if board.stopped or board.paused or board.out_of_time(begun=False):
            return
        board.core.save()
        access = ports.port_of(board.core, self._bytes(address)) if board.core.cpl else None
        if access is None:
            return
        try:
            if not ports.permitted(board.core, board.paging, *access):
                self._delivery.exception(GP)
        except PageFault as fault:
            board.core.set("cr2", fault.address)
            self._delivery.exception(PF, fault.code)

    def _bytes(self, address: int) -> bytes:
        """The instruction at an address that is being executed, and what follows it."""
        try:
            return self._board.paging.read(address, 15)
        except LookupError:
            return self._board.paging.read(address, PAGE - address % PAGE)

    def _execute(self, _uc: object, address: int, _size: int, _data: object) -> None:
        board = self._board
        if board.stopped or board.paused or board.out_of_time(begun=False):
            return
        board.core.save()
        long = board.core.code64
        found = decode(self._bytes(address) + bytes(3), long)
        if found is None or not found.two_byte or (board.core.cpl and found.opcode not in _ANY_LEVEL):
            return
        check = self._checks.get(found.opcode)
        if check is not None:
            check(address, found)

    def _advance(self, done: bool, found: Instruction) -> None:
        if done:
            core = self._board.core
            core.set("rip", core.get("rip") + found.size - 1)  # RDMSR and WRMSR have no ModRM byte

    # -- control registers ---------------------------------------------------------------------------

    def _move_to_control(self, _address: int, found: Instruction) -> None:
        core = self._board.core
        value = core.general()[found.rm]
        if not core.code64:
            value &= 0xFFFFFFFF
        check = {0: self._cr0, 3: self._cr3, 4: self._cr4}.get(found.reg)
        if check is None:
            return
        rule, wrong = check(value)
        if wrong:
            self._delivery.violation(rule, f"MOV of {value:#x} to CR{found.reg}: {wrong}")

    def _cr0(self, value: int) -> tuple[Rule, str]:
        core = self._board.core
        old, paging = core.get("cr0"), bool(value & CR0_PG)
        wrong = ""
        if value >> 32:
            wrong = "bits 63:32 are reserved"
        elif paging and not value & CR0_PE:
            wrong = "paging without protected mode"
        elif value & _CR0_NW and not value & _CR0_CD:
            wrong = "NW without CD"
        elif paging and not old & CR0_PG and core.get("efer") & _EFER_LME:
            if not core.get("cr4") & CR4_PAE:
                wrong = "paging with EFER.LME but without CR4.PAE"
            elif core.segment("cs").long:
                wrong = "long mode entered while CS.L is set"
        elif not paging and core.code64:
            wrong = "paging switched off in 64-bit code"
        return BAD_CR0, wrong

    def _cr3(self, value: int) -> tuple[Rule, str]:
        long = self._board.core.get("efer") & EFER_LMA
        return BAD_CR3, f"bits from {_WIDTH} on are reserved" if long and value >> _WIDTH else ""

    def _cr4(self, value: int) -> tuple[Rule, str]:
        wrong = ""
        if value & ~CR4_DEFINED:
            wrong = f"bits {value & ~CR4_DEFINED:#x} are reserved"
        elif self._board.core.get("efer") & EFER_LMA and not value & CR4_PAE:
            wrong = "PAE cleared in long mode"
        return BAD_CR4, wrong

    # -- memory operands -----------------------------------------------------------------------------

    def _load_table(self, address: int, found: Instruction) -> None:
        """LGDT and LIDT in 64-bit mode."""
        where = operand(self._board.core, address, found)
        if where is None or not self._board.core.code64:
            return
        try:
            base = int.from_bytes(self._board.paging.read(where + 2, 8), "little")
        except LookupError:
            return  # the engine raises #PF
        if not canonical(base):
            table = "LGDT" if found.reg & 7 == 2 else "LIDT"
            self._delivery.violation(NON_CANONICAL, f"{table} with base {base:#x}")

    def _aligned_move(self, address: int, found: Instruction) -> None:
        if found.opcode in (0x6F, 0x7F) and 0x66 not in found.prefixes:
            return  # MMX
        if 0xF3 in found.prefixes or 0xF2 in found.prefixes:
            return  # MOVDQU
        core = self._board.core
        if core.get("cr0") & (_CR0_EM | _CR0_TS) or not core.get("cr4") & _CR4_OSFXSR:
            return  # the engine raises #UD or #NM
        where = operand(self._board.core, address, found)
        if where is None:
            return
        if where % 16:
            self._delivery.violation(MISALIGNED, f"16-byte move with operand at {where:#x}")
            return
        seen = self._aligned[address] = self._aligned.get(address, 0) + 1
        if seen == _TRUSTED_AFTER:
            self.retired.append(self._hooks[address])
            self._board.pause(begun=False)
