"""What leaves the core: ports, CPUID, hypercalls, faults, memory that is not RAM, and who answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from bootbuild.machine.binding import uc, x86
from bootbuild.machine.block import PAGE
from bootbuild.machine.board import Board
from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.cpuid import OSXSAVE, native_cpuid
from bootbuild.machine.delivery import Delivery
from bootbuild.machine.engine import Segment
from bootbuild.machine.gates import HAS_ERROR_CODE, PF, UD
from bootbuild.machine.msr import Msrs
from bootbuild.machine.operand import linear_of
from bootbuild.machine.paging import CR0_PG, CR4_OSXSAVE
from bootbuild.model.machine import RegionKind
from bootbuild.model.trace import StopKind

_SYSCALL_SIZE = 2
_EFER_SCE = 1
_STAR, _LSTAR, _FMASK = 0xC0000081, 0xC0000082, 0xC0000084
_HYPERCALLS: dict[bytes, Literal["vmcall", "vmmcall"]] = {
    b"\x0f\x01\xc1": "vmcall",
    b"\x0f\x01\xd9": "vmmcall",
}
_ACCESS = {
    uc.UC_MEM_READ_UNMAPPED: "read",
    uc.UC_MEM_WRITE_UNMAPPED: "write",
    uc.UC_MEM_FETCH_UNMAPPED: "fetch",
    uc.UC_MEM_READ_PROT: "read",
    uc.UC_MEM_WRITE_PROT: "write",
    uc.UC_MEM_FETCH_PROT: "fetch",
}


class Traps:
    """The hooks of one machine, all installed before its first instruction."""

    def __init__(self, board: Board, delivery: Delivery, msrs: Msrs) -> None:
        self._board = board
        self._delivery = delivery
        self._msrs = msrs
        self._refused_at: int | None = None  #: offset in CS of an instruction that wrote to ROM
        self._dropping = False
        self._rom: dict[int, int] = {}  #: physical address → what was there before that instruction
        core = board.core
        core.hook(uc.UC_HOOK_INTR, self._raised)
        core.hook(uc.UC_HOOK_INSN_INVALID, self._invalid)
        core.hook(uc.UC_HOOK_MEM_INVALID, self._no_memory)
        core.hook(uc.UC_HOOK_INSN, self._port_in, x86.UC_X86_INS_IN)
        core.hook(uc.UC_HOOK_INSN, self._port_out, x86.UC_X86_INS_OUT)
        core.hook(uc.UC_HOOK_INSN, self._cpuid, x86.UC_X86_INS_CPUID)
        core.hook(uc.UC_HOOK_INSN, self._syscall, x86.UC_X86_INS_SYSCALL)
        core.hook_tsc(msrs.rdtsc)

    # -- exceptions ----------------------------------------------------------------------------------

    def _raised(self, _uc: object, vector: int, _data: object) -> None:
        board, core = self._board, self._board.core
        core.save()
        code = core.error_code if vector in HAS_ERROR_CODE else 0
        software = core.from_software or vector >= 32
        core.forget_exception()
        core.restore()
        if board.stopped or board.out_of_time():
            return
        if software:
            self._delivery.interrupt(vector)
            return
        if vector == PF:
            outside = board.paging.walk(core.get("cr2")).outside
            if outside is not None:
                board.halt(
                    StopKind.OUTSIDE,
                    f"a page table entry at physical {outside:#x} is not in memory",
                    address=core.get("cr2"),
                    physical=outside,
                )
                return
        self._delivery.exception(vector, code)

    def _invalid(self, _uc: object, _data: object) -> bool:
        board, core = self._board, self._board.core
        if board.stopped or board.out_of_time():
            return True
        ip = core.get("rip")
        try:
            code = board.paging.read(board.linear_ip(), 3)
        except LookupError:
            code = b""
        call = _HYPERCALLS.get(code)
        if call:
            board.calls += 1
        if call and board.platform.hypercall(board.cpu, call):
            if core.get("rip") == ip:
                core.set("rip", ip + 3)
            board.after_call()
            return True
        self._delivery.exception(UD)
        return True

    # -- memory --------------------------------------------------------------------------------------

    def _no_memory(
        self, _uc: object, access: int, address: int, size: int, value: int, _data: object
    ) -> bool:
        board = self._board
        if board.stopped:
            return False
        if access == uc.UC_MEM_FETCH_PROT and board.memory.allow_code(board.core, address):
            return True
        how = _ACCESS.get(access, "access")
        region = board.memory.region(address)
        text = f"{how} of {size} bytes at physical {address:#x}"
        if region and region.kind is RegionKind.ROM:
            return self._rom_write(address, min(size, region.span.end - address), text)
        if region and region.kind is RegionKind.FREE:
            self._halt(StopKind.NOT_ALLOCATED, f"{text}, which was not allocated", how, address)
        elif region and region.kind is RegionKind.RESERVED:
            self._halt(StopKind.RESERVED_WRITE, f"{text}, which is reserved", how, address)
        else:
            self._halt(StopKind.OUTSIDE, f"{text}, where there is nothing", how, address)
        return False

    def _rom_write(self, address: int, size: int, text: str) -> bool:
        """Refused, a write stops the engine within its instruction; accepted, it is done.

        So the first attempt is refused, and the instruction is then executed alone and its writes undone.
        `size` is that of the part in ROM: for a write across its end the engine first announces the whole,
        then byte by byte what it does, each at its own physical address.
        """
        board = self._board
        before = dict(enumerate(board.memory.read(address, size), address))
        if before.keys() - self._rom:
            board.record("rom-write", f"{text}: dropped")
        self._rom = before | self._rom
        if not self._dropping:
            self._refused_at = board.core.get("rip")
            board.pause(begun=False)
        return self._dropping

    @property
    def wrote_rom(self) -> bool:
        """The engine has stopped at an instruction that wrote to ROM: `dropping_writes` is to be called."""
        return self._refused_at is not None

    @contextmanager
    def dropping_writes(self) -> Iterator[bool]:
        """While this lasts writes to ROM are accepted; afterwards they have not happened.

        The value: whether the instruction is to be executed again. One that the engine does in C (FXSAVE and
        its like) goes on after a refused write, and is over.
        """
        again = self._board.core.get("rip") == self._refused_at
        self._refused_at = None
        self._dropping = True
        try:
            yield again
        finally:
            self._dropping = False
            for address, byte in self._rom.items():
                self._board.memory.write(address, bytes([byte]))
            self._rom = {}

    def _halt(self, kind: StopKind, detail: str, how: str, physical: int) -> None:
        """Stop at a bad access; the engine tells the physical address only, so find the linear one."""
        board = self._board
        ip = board.linear_ip()
        if not board.core.get("cr0") & CR0_PG:
            candidates = [physical]
        elif how == "fetch":
            candidates = [ip]
        else:
            try:
                candidates = linear_of(board.core, ip, board.paging.read(ip, 15))
            except LookupError:
                candidates = []
        address = None
        for candidate in candidates:
            page = board.paging.walk(candidate & -PAGE).physical
            if page is not None and page == physical & -PAGE:
                address = (candidate & -PAGE) + physical % PAGE
                break
        at = "" if address is None or address == physical else f" (virtual {address:#x})"
        board.halt(kind, f"{detail}{at}", address=address, physical=physical)

    def mmio_read(self, address: int, size: int) -> int:
        """A read inside an MMIO region."""
        board = self._board
        board.calls += 1
        value = board.platform.mmio_read(board.cpu, address, size)
        board.after_call()
        return value & (1 << 8 * size) - 1

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """A write inside an MMIO region."""
        board = self._board
        board.calls += 1
        board.platform.mmio_write(board.cpu, address, size, value)
        board.after_call()

    # -- instructions --------------------------------------------------------------------------------

    def _port_in(self, _uc: object, port: int, size: int, _data: object) -> int:
        board = self._board
        if board.stopped:
            return 0
        board.calls += 1
        value = board.platform.port_in(board.cpu, port, size)
        board.after_call()
        return value & (1 << 8 * size) - 1

    def _port_out(self, _uc: object, port: int, size: int, value: int, _data: object) -> None:
        board = self._board
        if board.stopped:
            return
        board.calls += 1
        board.platform.port_out(board.cpu, port, size, value & (1 << 8 * size) - 1)
        board.after_call()

    def _cpuid(self, _uc: object, _data: object) -> int:
        board, core = self._board, self._board.core
        leaf, subleaf = core.get("eax"), core.get("ecx")
        board.calls += 1
        native = native_cpuid(leaf, subleaf)
        if leaf == 1 and core.get("cr4") & CR4_OSXSAVE:
            native = (*native[:2], native[2] | OSXSAVE, native[3])
        answer = board.platform.cpuid(board.cpu, leaf, subleaf, native)
        for register, value in zip(("rax", "rbx", "rcx", "rdx"), answer, strict=True):
            core.set(register, value & 0xFFFFFFFF)
        board.after_call()
        return 1

    def _syscall(self, _uc: object, _data: object) -> None:
        board, core = self._board, self._board.core
        if board.stopped:
            return
        ip = core.get("rip")
        board.calls += 1
        board.jumped = False
        if not board.platform.syscall(board.cpu):
            self._enter_system(ip)
        target = core.get("rip")
        if board.jumped or target != ip:
            core.set("rip", target - _SYSCALL_SIZE)  # the engine adds it on return from the hook
        board.after_call()

    def _enter_system(self, ip: int) -> None:
        """SYSCALL as the processor does it (SDM 2, SYSCALL)."""
        core = self._board.core
        core.save()
        if not (core.get("efer") & _EFER_SCE and core.code64):
            self._delivery.exception(UD)
            return
        flags, star = core.get("rflags"), core.msr_read(_STAR)
        selector = star >> 32 & 0xFFFC
        core.put_general(GENERAL.index("rcx"), ip + _SYSCALL_SIZE)
        core.put_general(GENERAL.index("r11"), flags)
        core.put_segment("cs", Segment(selector, 0, 0xFFFFFFFF, 0x00A09B00))
        core.put_segment("ss", Segment(selector + 8, 0, 0xFFFFFFFF, 0x00C09300))
        core.put_mode(0, long=True, protected=True)
        core.put_ip(core.msr_read(_LSTAR))
        core.restore()
        core.set("rflags", flags & ~core.msr_read(_FMASK) & ~(1 << 16) | 2)
