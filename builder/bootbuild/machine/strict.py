"""Where hardware faults and the engine does not: found when a block is translated, judged when it runs.

A block's bytes are searched for the few opcodes concerned, and a hook is put on the one address of each
hit. A hit that is not an instruction start never fires.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from bootbuild.machine import ports, scan
from bootbuild.machine.block import PAGE
from bootbuild.machine.board import Board
from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.delivery import Delivery
from bootbuild.machine.engine import EFER_LMA, Core
from bootbuild.machine.gates import GP, PF, UD
from bootbuild.machine.msr import Msrs, canonical
from bootbuild.machine.operand import Instruction, Place, code_bits, decode, place
from bootbuild.machine.paging import ADDRESS_WIDTH, CR0_PE, CR0_PG, CR4_PAE, PageFault, bad_pointer
from bootbuild.machine.rules import (
    BAD_CR0,
    BAD_CR3,
    BAD_CR4,
    BAD_POINTERS,
    MISALIGNED,
    NON_CANONICAL,
    RDPMC,
    RESERVED_REGISTER_BITS,
)
from bootbuild.machine.scan import PRIVILEGED, Judged
from bootbuild.model.rule import Rule

_LONGEST = 15  #: bytes of an instruction
_CR0_NW, _CR0_CD = 1 << 29, 1 << 30
_CR0_EM, _CR0_TS = 1 << 2, 1 << 3
_CR4_DE, _CR4_OSFXSR, _CR4_FSGSBASE = 1 << 3, 1 << 9, 1 << 16
_RELOADS = {0: CR0_PG | _CR0_CD | _CR0_NW, 4: 1 << 4 | CR4_PAE | 1 << 7 | 1 << 20}
"""What of CR0 and CR4 (PSE, PAE, PGE, SMEP) loads the PDPTEs when it changes (SDM 3A, 4.4.1)."""
_EFER_LME = 1 << 8
_DR6_BD = _DR7_GD = 1 << 13
_DB = 1
CR4_DEFINED = 0x7FC | 1 << 16 | 1 << 18 | 1 << 20
"""TSD … OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP: what CPUID of this core reports."""


class _Site(NamedTuple):
    """An instruction that is judged, and its memory operand."""

    found: Instruction
    what: Judged
    where: Place | None

    def linear(self, core: Core) -> int:
        """Linear address of the operand, with the registers as saved."""
        assert self.where is not None
        return self.where.linear(core)


class Strict:
    """Installs and serves the one-address hooks of one machine."""

    def __init__(self, board: Board, delivery: Delivery, msrs: Msrs) -> None:
        self._board = board
        self._delivery = delivery
        self._msrs = msrs
        self._sites: dict[int, _Site | None] = {}  #: None where there was more than one, or it is not known
        self._ports: set[int] = set()
        self._checks: dict[Judged, Callable[[_Site], None]] = {
            Judged.ALIGNMENT: self._alignment,
            Judged.CONTROL: self._move_to_control,
            Judged.DEBUG: self._move_debug,
            Judged.BASE: self._write_base,
            Judged.TABLE: self._load_table,
            Judged.TASK: self._load_task,
            Judged.WRMSR: lambda site: self._advance(self._msrs.wrmsr(), site),
            Judged.RDMSR: lambda site: self._advance(self._msrs.rdmsr(), site),
            Judged.RDPMC: lambda _site: self._delivery.violation(RDPMC, "RDPMC"),
            Judged.ABSENT: lambda _site: self._delivery.exception(UD),
            Judged.LOCKED: lambda _site: self._delivery.exception(UD),
        }

    def watch(self, start: int, code: bytes) -> bool:
        """Look through a block at linear address `start`; True if it must be translated anew."""
        core = self._board.core
        new = False
        bits = code_bits(core)
        here: dict[int, _Site | None] = {}
        for offset, found, what in scan.sites(code, bits):
            address = start + offset
            if found is None or what is None:
                here[address] = None
                continue
            where = place(address, found, bits)
            if what is Judged.ALIGNMENT and where and where.fixed and not where.displacement % 16:
                continue  # it never is anything else
            here[address] = _Site(found, what, where)
        for address in range(start, start + len(code)) if self._sites else ():
            if address in self._sites and self._sites[address] != here.get(address):
                self._sites[address] = None
        for address, site in here.items():
            if address not in self._sites:
                self._sites[address] = site
                core.hook_address(address, self._execute)
                new = True
        for offset in ports.sites(code, bits) if core.cpl else ():
            address = start + offset
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
        """What stands at an address that is being executed, as far as it is mapped.

        That may be nothing: the core may know a translation whose table entry is gone.
        """
        for size in (_LONGEST, PAGE - address % PAGE):
            with suppress(LookupError):
                return self._board.paging.read(address, size)
        return b""

    def _execute(self, _uc: object, address: int, _size: int, _data: object) -> None:
        board, site = self._board, self._sites[address]
        core = board.core
        core.save()
        if site is not None and site.what is Judged.ALIGNMENT and not site.linear(core) % 16:
            return  # as it most often is: a whole copy or sum may go through here
        if board.stopped or board.paused or board.out_of_time(begun=False):
            return
        if site is None:
            site = self._look_again(address)
        if site is not None and not (core.cpl and site.what in PRIVILEGED):
            self._checks[site.what](site)

    def _look_again(self, address: int) -> _Site | None:
        """What stands now at an address at which there may be more than one instruction."""
        bits = code_bits(self._board.core)
        found = decode(self._bytes(address), bits)
        what = scan.judged(found, bits) if found is not None else None
        return _Site(found, what, place(address, found, bits)) if found and what else None

    def _advance(self, done: bool, site: _Site) -> None:
        if done:
            core = self._board.core
            core.set("rip", core.get("rip") + site.found.length)

    # -- control registers ---------------------------------------------------------------------------

    def _move_to_control(self, site: _Site) -> None:
        found = site.found
        value = self._source(found)
        check = {0: self._cr0, 3: self._cr3, 4: self._cr4, 8: self._cr8}.get(found.reg)
        if check is None:
            return  # the engine raises #UD
        rule, wrong = check(value)
        if not wrong:
            rule, wrong = self._pointers(found.reg, value)
        if wrong:
            self._delivery.violation(rule, f"MOV of {value:#x} to CR{found.reg}: {wrong}")

    def _source(self, found: Instruction) -> int:
        """What MOV to a control or debug register moves.

        The engine always takes 64 bits, so outside 64-bit code the upper half is cleared before: it is
        undefined there (SDM 1, 3.4.1.1).
        """
        core = self._board.core
        value = core.general()[found.rm]
        if value >> 32 and not core.code64:
            value &= 0xFFFFFFFF
            core.set(GENERAL[found.rm], value)
        return value

    def _pointers(self, register: int, value: int) -> tuple[Rule, str]:
        """The four PDPTEs, which PAE paging loads with CR3 and when it is switched on (SDM 3A, 4.4.1)."""
        core = self._board.core
        now = {number: core.get(f"cr{number}") for number in (0, 3, 4, 8)}
        new = now | {register: value}
        pae = new[0] & CR0_PG and new[4] & CR4_PAE and not core.get("efer") & _EFER_LME
        if not pae or (register in _RELOADS and not (now[register] ^ value) & _RELOADS[register]):
            return BAD_POINTERS, ""
        bad = bad_pointer(self._board.memory, new[3])
        return BAD_POINTERS, "" if bad is None else f"{bad}"

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
        return BAD_CR3, f"bits from {ADDRESS_WIDTH} on are reserved" if value >> ADDRESS_WIDTH else ""

    def _cr4(self, value: int) -> tuple[Rule, str]:
        wrong = ""
        if value & ~CR4_DEFINED:
            wrong = f"bits {value & ~CR4_DEFINED:#x} are reserved"
        elif self._board.core.get("efer") & EFER_LMA and not value & CR4_PAE:
            wrong = "PAE cleared in long mode"
        return BAD_CR4, wrong

    def _cr8(self, value: int) -> tuple[Rule, str]:
        return RESERVED_REGISTER_BITS, "bits 63:4 are reserved" if value >> 4 else ""

    def _move_debug(self, site: _Site) -> None:
        core, found = self._board.core, site.found
        if found.reg > 7 or (found.reg in (4, 5) and core.get("cr4") & _CR4_DE):
            return  # the engine raises #UD
        control = core.get("dr7")
        if control & _DR7_GD:
            core.set("dr6", core.get("dr6") | _DR6_BD)
            core.set("dr7", control & ~_DR7_GD)
            self._delivery.exception(_DB)
            return
        if found.opcode == 0x21:
            return
        value = self._source(found)
        if found.reg > 3 and value >> 32:
            register = 6 + found.reg % 2  # DR4 and DR5 are other names of theirs
            self._delivery.violation(
                RESERVED_REGISTER_BITS, f"MOV of {value:#x} to DR{register}: bits 63:32 are reserved"
            )

    def _write_base(self, site: _Site) -> None:
        core, found = self._board.core, site.found
        value = core.general()[found.rm]
        if not core.get("cr4") & _CR4_FSGSBASE:
            return  # the engine raises #UD
        if found.rex & 8 and not canonical(value):
            name = "WRFSBASE" if found.reg & 7 == 2 else "WRGSBASE"
            self._delivery.violation(NON_CANONICAL, f"{name} of {value:#x}")

    # -- memory operands -----------------------------------------------------------------------------

    def _load_table(self, site: _Site) -> None:
        """LGDT and LIDT in 64-bit mode."""
        where = site.linear(self._board.core)
        try:
            base = int.from_bytes(self._board.paging.read(where + 2, 8), "little")
        except LookupError:
            return  # the engine raises #PF
        if not canonical(base):
            table = "LGDT" if site.found.reg & 7 == 2 else "LIDT"
            self._delivery.violation(NON_CANONICAL, f"{table} with base {base:#x}")

    def _load_task(self, site: _Site) -> None:
        core = self._board.core
        if not core.get("cr0") & CR0_PE:
            return  # the engine raises #UD
        if site.found.memory:
            try:
                selector = int.from_bytes(self._board.paging.read(site.linear(core), 2), "little")
            except LookupError:
                return  # the engine raises #PF
        else:
            selector = core.general()[site.found.rm]
        if not selector & 0xFFFC:
            self._delivery.exception(GP)

    def _alignment(self, site: _Site) -> None:
        core = self._board.core
        if core.get("cr0") & (_CR0_EM | _CR0_TS) or not core.get("cr4") & _CR4_OSFXSR:
            return  # the engine raises #UD or #NM
        linear = site.linear(core)
        if linear % 16:
            self._delivery.violation(MISALIGNED, f"16-byte operand at {linear:#x}")
