"""Instructions with a ModRM byte, decoded as far as it takes to find their memory operand.

Source: Intel SDM volume 2, chapter 2 (tables 2-1 to 2-3, 2.2.1 for REX and RIP-relative addresses).
"""

from __future__ import annotations

from dataclasses import dataclass

from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.engine import Core

PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_SEGMENTS = {0x26: "es", 0x2E: "cs", 0x36: "ss", 0x3E: "ds", 0x64: "fs", 0x65: "gs"}
_RBX, _RSP, _RBP, _RSI, _RDI = (GENERAL.index(name) for name in ("rbx", "rsp", "rbp", "rsi", "rdi"))
_NONE, _LINEAR = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Instruction:
    """An opcode of the one- or two-byte map, taken to have a ModRM byte."""

    opcode: int
    two_byte: bool
    rex: int
    prefixes: bytes
    modrm: int
    rest: bytes  #: after ModRM
    size: int  #: up to ModRM inclusive

    @property
    def reg(self) -> int:
        return self.modrm >> 3 & 7 | (self.rex & 4) << 1

    @property
    def rm(self) -> int:
        return self.modrm & 7 | (self.rex & 1) << 3

    @property
    def memory(self) -> bool:
        """Whether ModRM names a memory operand."""
        return self.modrm >> 6 != 3


def decode(code: bytes, long: bool) -> Instruction | None:
    """The instruction at the start of `code` (fifteen bytes and some to spare); None if it is cut off."""
    at, rex = 0, 0
    while at < len(code) and code[at] in PREFIXES:
        at += 1
    prefixes = code[:at]
    if long and at < len(code) and code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    two_byte = code[at : at + 1] == b"\x0f"
    at += two_byte
    if len(code) < at + 7:
        return None
    return Instruction(code[at], two_byte, rex, prefixes, code[at + 1], code[at + 2 :], at + 2)


def operand(core: Core, address: int, found: Instruction) -> int | None:
    """Linear address of the memory operand, from the registers as saved; None for a register."""
    if not found.memory:
        return None
    narrow = 0x67 in found.prefixes
    if not core.code64 and core.segment("cs").big == narrow:
        return _operand16(core, found)
    general = core.general()
    offset, stack = _offset(general, address, found, core.code64)
    if core.code64:
        offset &= _NONE if narrow else _LINEAR
        return offset + _segment_base(core, found, "") & _LINEAR
    return (offset & 0xFFFFFFFF) + _segment_base(core, found, "ss" if stack else "ds") & 0xFFFFFFFF


def _offset(general: tuple[int, ...], address: int, found: Instruction, long: bool) -> tuple[int, bool]:
    """Offset by 32- or 64-bit addressing, and whether the stack segment is its default."""
    mod, rm, rest = found.modrm >> 6, found.modrm & 7, found.rest
    base, stack, width = 0, False, (0, 1, 4)[mod]
    if rm == 4:
        sib, rest = rest[0], rest[1:]
        index = sib >> 3 & 7 | (found.rex & 2) << 2
        if index != _RSP:
            base = general[index] << (sib >> 6)
        low = sib & 7 | (found.rex & 1) << 3
        if low & 7 == _RBP and mod == 0:
            width = 4
        else:
            base += general[low]
            stack = low in (_RSP, _RBP)
    elif rm == _RBP and mod == 0:
        width = 4
        base = address + found.size + 4 if long else 0
    else:
        base, stack = general[found.rm], found.rm == _RBP
    return base + int.from_bytes(rest[:width], "little", signed=True), stack


def _operand16(core: Core, found: Instruction) -> int:
    general = core.general()
    bx, bp, si, di = (general[index] for index in (_RBX, _RBP, _RSI, _RDI))
    mod, rm = found.modrm >> 6, found.modrm & 7
    offset = (bx + si, bx + di, bp + si, bp + di, si, di, bp, bx)[rm]
    stack, width = rm in (2, 3, 6), (0, 1, 2)[mod]
    if rm == 6 and mod == 0:
        offset, stack, width = 0, False, 2
    offset += int.from_bytes(found.rest[:width], "little", signed=True)
    return (offset & 0xFFFF) + _segment_base(core, found, "ss" if stack else "ds") & 0xFFFFFFFF


def _segment_base(core: Core, found: Instruction, default: str) -> int:
    """Base of the operand's segment; in 64-bit code (no default) only FS and GS have one."""
    name = default
    for prefix in found.prefixes:
        if prefix in (0x64, 0x65) or (default and prefix in _SEGMENTS):
            name = _SEGMENTS[prefix]
    return core.segment(name).base if name else 0


def linear_of(core: Core, address: int, code: bytes) -> list[int]:
    """Where an instruction may have reached in memory: its operand, the stack, the string registers."""
    general = core.general()
    candidates: list[int] = []
    found = decode(code + bytes(8), core.code64)
    if found is not None:
        where = operand(core, address, found)
        candidates += [] if where is None else [where]
    stack, width = (0, _LINEAR) if core.code64 else (core.segment("ss").base, _NONE)
    for index, base in ((_RSP, stack), (_RDI, 0), (_RSI, 0)):
        candidates += [base + general[index] - back & width for back in (0, 2, 4, 8)]
    return candidates
