"""Which instructions of a block have to be judged: those that hardware may fault on and the engine lets pass.

Source: Intel SDM volume 2 (the instructions' own pages; LOCK; table 2-21 for alignment by exception class).
"""

from __future__ import annotations

import enum
import functools
import re

from bootbuild.machine.operand import (
    MAP_3A,
    MAP_38,
    ONE_BYTE,
    TWO_BYTE,
    Instruction,
    decode,
)


class Judged(enum.Enum):
    """What about an instruction may be wrong."""

    ALIGNMENT = enum.auto()  #: an SSE operand of 16 bytes in memory
    CONTROL = enum.auto()  #: MOV to a control register
    DEBUG = enum.auto()  #: MOV to or from a debug register
    BASE = enum.auto()  #: WRFSBASE and WRGSBASE
    TABLE = enum.auto()  #: LGDT and LIDT with a base of 64 bits
    TASK = enum.auto()  #: LTR
    WRMSR = enum.auto()
    RDMSR = enum.auto()
    RDPMC = enum.auto()
    ABSENT = enum.auto()  #: RDRAND and RDSEED, which CPUID does not report
    LOCKED = enum.auto()  #: LOCK where it may not be


PRIVILEGED = frozenset((Judged.CONTROL, Judged.DEBUG, Judged.TABLE, Judged.TASK, Judged.WRMSR, Judged.RDMSR))
"""Below ring 0 these raise #GP(0) in the engine too."""

_PLAIN, _66, _F2, _F3 = 0, 0x66, 0xF2, 0xF3
_PACKED = frozenset((_PLAIN, _66))


def _by_prefix(table: dict[frozenset[int], tuple[int | range, ...]]) -> dict[int, frozenset[int]]:
    """Opcode → the mandatory prefixes with which it counts."""
    found: dict[int, frozenset[int]] = {}
    for prefixes, opcodes in table.items():
        for item in opcodes:
            for opcode in (item,) if isinstance(item, int) else item:
                found[opcode] = prefixes
    return found


_ALIGNED = {
    TWO_BYTE: _by_prefix(
        {
            _PACKED: (0x14, 0x15, 0x28, 0x29, 0x2B, 0x51, range(0x54, 0x5A), range(0x5C, 0x60), 0xC2, 0xC6),
            frozenset((_PLAIN,)): (0x52, 0x53),  # RSQRTPS, RCPPS
            frozenset((_F3,)): (0x12, 0x16),  # MOVSLDUP, MOVSHDUP
            frozenset((_PLAIN, _66, _F3)): (0x5B,),  # CVTDQ2PS, CVTPS2DQ, CVTTPS2DQ
            frozenset((_66, _F2, _F3)): (0x70,),  # PSHUFD, PSHUFLW, PSHUFHW
            frozenset((_66, _F2)): (0x7C, 0x7D, 0xD0, 0xE6),  # HADDPx, HSUBPx, ADDSUBPx, CVT(T)PD2DQ
            frozenset((_66,)): (
                # CVT(T)PD2PI, CVTPD2PS, then integers; the gaps are MOVD, MOVQ and what takes no memory
                *(0x2C, 0x2D, 0x5A, range(0x60, 0x6E), 0x6F, 0x74, 0x75, 0x76, 0x7F),
                *(range(0xD1, 0xD6), range(0xD8, 0xE6), range(0xE7, 0xF0), range(0xF1, 0xF7)),
                range(0xF8, 0xFF),
            ),
        }
    ),
    MAP_38: _by_prefix(
        {
            frozenset((_66,)): (
                # SSSE3 and SSE4; the gaps are PMOVSX and PMOVZX, which take less than 16 bytes; then AES
                *(range(0x0C), 0x10, 0x14, 0x15, 0x17, 0x1C, 0x1D, 0x1E, range(0x28, 0x2C)),
                *(range(0x37, 0x42), range(0xDB, 0xE0)),
            )
        }
    ),
    MAP_3A: _by_prefix(
        {
            # without PEXTRx, PINSRx, INSERTPS, ROUNDSx, and without PCMPxSTRx, which need no alignment
            frozenset((_66,)): (0x08, 0x09, range(0x0C, 0x10), 0x40, 0x41, 0x42, 0x44, 0xDF)
        }
    ),
}

_MODIFY = frozenset(range(8)) - {7}
_LOCKABLE: dict[tuple[int, int], frozenset[int]] = {
    # (map, opcode) → ModRM.reg: ADD … XOR, NOT, NEG, INC, DEC, XCHG, BTS, BTR, BTC, CMPXCHG, XADD, CMPXCHGxB
    **{(ONE_BYTE, first + wide): _MODIFY | {7} for first in range(0, 0x38, 8) for wide in (0, 1)},
    **dict.fromkeys(((ONE_BYTE, 0x80), (ONE_BYTE, 0x81), (ONE_BYTE, 0x82), (ONE_BYTE, 0x83)), _MODIFY),
    **dict.fromkeys(((ONE_BYTE, 0x86), (ONE_BYTE, 0x87)), _MODIFY | {7}),
    **dict.fromkeys(((ONE_BYTE, 0xF6), (ONE_BYTE, 0xF7)), frozenset((2, 3))),
    **dict.fromkeys(((ONE_BYTE, 0xFE), (ONE_BYTE, 0xFF)), frozenset((0, 1))),
    **{(TWO_BYTE, opcode): _MODIFY | {7} for opcode in (0xAB, 0xB0, 0xB1, 0xB3, 0xBB, 0xC0, 0xC1)},
    (TWO_BYTE, 0xBA): frozenset((5, 6, 7)),
    (TWO_BYTE, 0xC7): frozenset((1,)),
}

_SYSTEM = {0x22: Judged.CONTROL, 0x21: Judged.DEBUG, 0x23: Judged.DEBUG} | {
    0x30: Judged.WRMSR,
    0x32: Judged.RDMSR,
    0x33: Judged.RDPMC,
}
_SECOND = bytes({0x00, 0x01, 0x38, 0x3A, 0xAE, 0xC7, *_SYSTEM, *_ALIGNED[TWO_BYTE]})
_HINT = re.compile(b"\xf0|\x0f[" + re.escape(_SECOND) + b"]", re.DOTALL)
"""A block without these bytes has nothing to be judged, and is not taken apart."""


def judged(found: Instruction, bits: int) -> Judged | None:
    """What has to be judged about an instruction, if anything; `bits`: of its code segment."""
    which, opcode, reg = found.map, found.opcode, found.modrm >> 3 & 7
    if 0xF0 in found.prefixes:
        if found.memory and reg in _LOCKABLE.get((which, opcode), ()):
            return None
        return Judged.LOCKED
    if which == TWO_BYTE and opcode == 0x00:
        return Judged.TASK if reg == 3 else None
    if found.memory:
        if found.mandatory in _ALIGNED.get(which, {}).get(opcode, ()):
            return Judged.ALIGNMENT
        table = which == TWO_BYTE and opcode == 0x01 and reg in (2, 3) and bits == 64
        return Judged.TABLE if table else None
    if which == TWO_BYTE and opcode == 0xC7:
        return Judged.ABSENT if reg in (6, 7) else None
    if which == TWO_BYTE and opcode == 0xAE:
        return Judged.BASE if reg in (2, 3) and found.mandatory == _F3 and bits == 64 else None
    return _SYSTEM.get(opcode) if which == TWO_BYTE else None


@functools.lru_cache(maxsize=4096)
def sites(code: bytes, bits: int) -> tuple[tuple[int, Instruction | None, Judged | None], ...]:
    """(offset in the block, the instruction there, what is to be judged); `code` is a whole block.

    If the block's end is not that of an instruction, then the engine took it apart in another way (as it does
    with an instruction that it will not execute): where none is named, every byte may be the start of one.
    A boot is run several times, and so are most of its blocks looked through.
    """
    if not _HINT.search(code):
        return ()
    starts: list[tuple[int, Instruction]] = []
    at = 0
    while at < len(code) and (found := decode(code, bits, at)):
        starts.append((at, found))
        at += found.length
    if at != len(code):
        return tuple((at, None, None) for at in range(len(code)))
    all_of_them = ((offset, found, judged(found, bits)) for offset, found in starts)
    return tuple(site for site in all_of_them if site[2] is not None)
