"""One instruction, taken apart as far as it takes to know its length and its memory operand.

Source: Intel SDM volume 2, chapter 2 (tables 2-1 to 2-3, 2.2.1 for REX and RIP-relative addresses) and
appendix A (opcode maps: which opcodes have a ModRM byte and which immediate).
"""

from __future__ import annotations

from typing import NamedTuple

from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.engine import Core

PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_SEGMENTS = {0x26: "es", 0x2E: "cs", 0x36: "ss", 0x3E: "ds", 0x64: "fs", 0x65: "gs"}
_RBX, _RSP, _RBP, _RSI, _RDI = (GENERAL.index(name) for name in ("rbx", "rsp", "rbp", "rsi", "rdi"))
_LINEAR = 0xFFFFFFFFFFFFFFFF

ONE_BYTE, TWO_BYTE, MAP_38, MAP_3A, VEX = range(5)
"""Opcode maps: none, 0F, 0F 38, 0F 3A; everything with a VEX prefix is one here."""

_ARITHMETIC = frozenset(range(0x40))
_MODRM = frozenset(
    [opcode for opcode in _ARITHMETIC if opcode & 7 < 4]
    + [0x62, 0x63, 0x69, 0x6B, *range(0x80, 0x90), 0xC0, 0xC1, 0xC4, 0xC5, 0xC6, 0xC7]
    + [*range(0xD0, 0xD4), *range(0xD8, 0xE0), 0xF6, 0xF7, 0xFE, 0xFF]
)
_BYTE = frozenset(
    [opcode for opcode in _ARITHMETIC if opcode & 7 == 4]
    + [0x6A, 0x6B, *range(0x70, 0x81), 0x82, 0x83, 0xA8, *range(0xB0, 0xB8), 0xC0, 0xC1, 0xC6]
    + [0xCD, 0xD4, 0xD5, *range(0xE0, 0xE8), 0xEB]
)
_WORD_OR_DOUBLE = frozenset(
    [opcode for opcode in _ARITHMETIC if opcode & 7 == 5]
    + [0x68, 0x69, 0x81, 0xA9, *range(0xB8, 0xC0), 0xC7, 0xE8, 0xE9]
)
_FIXED = {0xC2: 2, 0xCA: 2, 0xC8: 3}  #: RET, RETF, ENTER
_NO_MODRM_0F = frozenset(
    (
        *(*range(0x04, 0x0D), 0x0E, *range(0x30, 0x38), 0x77, *range(0x80, 0x90), 0xA0, 0xA1, 0xA2),
        *(0xA8, 0xA9, 0xAA, *range(0xC8, 0xD0)),
    )
)
_BYTE_0F = frozenset((*range(0x70, 0x74), 0xA4, 0xAC, 0xBA, 0xC2, 0xC4, 0xC5, 0xC6))
_REGISTERS_0F = frozenset(range(0x20, 0x24))  #: MOV of control and debug registers: mod is always taken as 3


class Instruction(NamedTuple):
    """What the bytes of one instruction say."""

    map: int  #: ONE_BYTE …
    opcode: int
    prefixes: bytes
    rex: int
    modrm: int  #: 0xC0 (no memory) where the opcode has none
    displacement: bytes  #: what follows ModRM: the SIB byte, if there is one, and the displacement
    length: int  #: bytes, all together

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

    @property
    def mandatory(self) -> int:
        """The prefix that selects one of an opcode's four meanings: F3 or F2 before 66 before none (0)."""
        repeats = [prefix for prefix in self.prefixes if prefix in (0xF2, 0xF3)]
        return repeats[-1] if repeats else 0x66 if 0x66 in self.prefixes else 0


class Place(NamedTuple):
    """A memory operand: linear = segment base + (displacement + sum of register << shift, cut to size)."""

    displacement: int
    terms: tuple[tuple[int, int], ...]  #: (number of a general register, shift)
    mask: int  #: of the offset
    segment: str  #: whose base counts; empty for a base of zero
    width: int  #: mask of a linear address

    @property
    def fixed(self) -> bool:
        """Whether it depends on no register."""
        return not self.terms and not self.segment

    def linear(self, core: Core) -> int:
        """The linear address, with the registers as saved."""
        offset = self.displacement
        if self.terms:
            general = core.general()
            for index, shift in self.terms:
                offset += general[index] << shift
        offset &= self.mask
        return offset + core.segment(self.segment).base & self.width if self.segment else offset & self.width


def code_bits(core: Core) -> int:
    """64, 32 or 16: how the core reads the code at its instruction pointer, as saved."""
    return 64 if core.code64 else 32 if core.segment("cs").big else 16


def decode(code: bytes, bits: int, start: int = 0) -> Instruction | None:
    """The instruction at `start` in `code`; None if it is cut off. `bits`: of the code segment."""
    try:
        return _decode(code, bits, start)
    except IndexError:
        return None


def _decode(code: bytes, bits: int, start: int) -> Instruction | None:
    at, rex = start, 0
    while code[at] in PREFIXES:
        at += 1
    prefixes = code[start:at]
    if bits == 64 and code[at] & 0xF0 == 0x40:
        rex = code[at]
        at += 1
    opcode = code[at]
    at += 1
    which = ONE_BYTE
    if opcode in (0xC4, 0xC5) and (bits == 64 or code[at] >= 0xC0):
        # VEX: two or three bytes instead of prefixes, REX and 0F
        which = VEX
        at += 0xC6 - opcode
        immediate = opcode == 0xC4 and code[at - 2] & 0x1F == 3
        opcode = code[at]
        at += 1
        modrm = opcode != 0x77
    elif opcode == 0x0F:
        which, opcode = TWO_BYTE, code[at]
        at += 1
        if opcode in (0x38, 0x3A):
            which, opcode = (MAP_38 if opcode == 0x38 else MAP_3A), code[at]
            at += 1
        modrm = which != TWO_BYTE or opcode not in _NO_MODRM_0F
        immediate = which == MAP_3A or (which == TWO_BYTE and opcode in _BYTE_0F)
    else:
        modrm, immediate = opcode in _MODRM, False
    value, rest = 0xC0, b""
    if modrm:
        value = code[at]
        at += 1
        if which == TWO_BYTE and opcode in _REGISTERS_0F:
            value |= 0xC0
        size = _address_size(value, code[at] if value & 7 == 4 and value < 0xC0 else 0, bits, prefixes)
        rest = code[at : at + size]
        at += size
    at += immediate
    if which == ONE_BYTE:
        at += _immediate(opcode, value, bits, prefixes, rex)
    elif which == TWO_BYTE and opcode >> 4 == 8:
        at += _full(bits, prefixes, rex)
    if at > len(code):
        return None
    return Instruction(which, opcode, prefixes, rex, value, rest, at - start)


def _short_address(bits: int, prefixes: bytes) -> bool:
    return bits != 64 and (bits == 16) != (0x67 in prefixes)


def _address_size(modrm: int, sib: int, bits: int, prefixes: bytes) -> int:
    """Bytes of SIB and displacement."""
    mod, rm = modrm >> 6, modrm & 7
    if mod == 3:
        return 0
    if _short_address(bits, prefixes):
        return 2 if mod == 2 or (mod == 0 and rm == 6) else mod
    size = (0, 1, 4)[mod]
    if rm == 4:
        return 1 + (4 if mod == 0 and sib & 7 == _RBP else size)
    return 4 if mod == 0 and rm == _RBP else size


def _full(bits: int, prefixes: bytes, rex: int) -> int:
    """Bytes of an immediate of the operand's size, which is never more than four."""
    if bits == 64:
        return 2 if 0x66 in prefixes and not rex & 8 else 4
    return 2 if (bits == 16) != (0x66 in prefixes) else 4


def _immediate(opcode: int, modrm: int, bits: int, prefixes: bytes, rex: int) -> int:
    """Bytes of immediate of a one-byte opcode."""
    if opcode in _BYTE:
        return 1
    if opcode in _WORD_OR_DOUBLE:
        return 8 if opcode & 0xF8 == 0xB8 and rex & 8 else _full(bits, prefixes, rex)
    if opcode in (0xF6, 0xF7) and modrm >> 3 & 7 < 2:
        return 1 if opcode == 0xF6 else _full(bits, prefixes, rex)
    if opcode & 0xFC == 0xA0:  # MOV with an absolute address
        return (4 if 0x67 in prefixes else 8) if bits == 64 else 2 if _short_address(bits, prefixes) else 4
    if opcode in (0x9A, 0xEA):
        return 2 + _full(bits, prefixes, rex)
    return _FIXED.get(opcode, 0)


def place(address: int, found: Instruction, bits: int) -> Place | None:
    """The memory operand of the instruction at linear `address`; None for a register."""
    if not found.memory:
        return None
    terms: list[tuple[int, int]] = []
    mod, rm, rest = found.modrm >> 6, found.modrm & 7, found.displacement
    displacement, stack = 0, False
    if _short_address(bits, found.prefixes):
        mask = 0xFFFF
        if not (rm == 6 and mod == 0):
            pairs = (
                (_RBX, _RSI),
                (_RBX, _RDI),
                (_RBP, _RSI),
                (_RBP, _RDI),
                (_RSI,),
                (_RDI,),
                (_RBP,),
                (_RBX,),
            )
            terms += [(index, 0) for index in pairs[rm]]
            stack = rm in (2, 3, 6)
    else:
        mask = _LINEAR if bits == 64 and 0x67 not in found.prefixes else 0xFFFFFFFF
        if rm == 4:
            sib, rest = rest[0], rest[1:]
            index, low = sib >> 3 & 7 | (found.rex & 2) << 2, sib & 7 | (found.rex & 1) << 3
            if index != _RSP:
                terms.append((index, sib >> 6))
            if low & 7 != _RBP or mod != 0:
                terms.append((low, 0))
                stack = low in (_RSP, _RBP)
        elif rm == _RBP and mod == 0:
            displacement = address + found.length if bits == 64 else 0
        else:
            terms.append((found.rm, 0))
            stack = found.rm == _RBP
    displacement += int.from_bytes(rest, "little", signed=True)
    segment = "" if bits == 64 else "ss" if stack else "ds"
    for prefix in found.prefixes:
        if prefix in (0x64, 0x65) or (bits != 64 and prefix in _SEGMENTS):
            segment = _SEGMENTS[prefix]
    width = _LINEAR if bits == 64 else 0xFFFFFFFF
    return Place(displacement, tuple(terms), mask, segment, width)


def linear_of(core: Core, address: int, code: bytes) -> list[int]:
    """Where an instruction may have reached in memory: its operand, the stack, the string registers."""
    general = core.general()
    candidates: list[int] = []
    bits = code_bits(core)
    found = decode(code, bits)
    where = place(address, found, bits) if found is not None else None
    if where is not None:
        candidates.append(where.linear(core))
    stack, width = (0, _LINEAR) if bits == 64 else (core.segment("ss").base, 0xFFFFFFFF)
    for index, base in ((_RSP, stack), (_RDI, 0), (_RSI, 0)):
        candidates += [base + general[index] - back & width for back in (0, 2, 4, 8)]
    return candidates
