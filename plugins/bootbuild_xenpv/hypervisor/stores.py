"""Stores to a page table that Xen makes for a guest with writable page tables: ptwr, pv/ro-page-fault.c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MOV, _XCHG, _MOV_IMMEDIATE = 0x89, 0x87, 0xC7


@dataclass(frozen=True)
class Store:
    """A store of eight bytes to memory."""

    size: int  #: of the instruction, bytes
    register: int | None  #: number of the general register that is stored; None for `immediate`
    immediate: int
    exchanges: bool  #: the register takes the old value


def decode(code: Sequence[int]) -> Store | None:
    """The instruction at the start of `code` (15 bytes): MOV or XCHG of a quadword; None for any other.

    Where it stores the page fault tells.
    """
    rex, opcode, modrm = code[0], code[1], code[2]
    if rex & 0xF8 != 0x48 or opcode not in (_MOV, _XCHG, _MOV_IMMEDIATE) or modrm >> 6 == 3:
        return None
    mod, rm, at = modrm >> 6, modrm & 7, 3
    if rm == 4:
        at += 1
        if mod == 0 and code[3] & 7 == 5:
            at += 4
    elif rm == 5 and mod == 0:
        at += 4
    at += (0, 1, 4)[mod]
    if opcode != _MOV_IMMEDIATE:
        return Store(at, modrm >> 3 & 7 | (rex & 4) << 1, 0, opcode == _XCHG)
    value = int.from_bytes(bytes(code[at : at + 4]), "little", signed=True)
    return Store(at + 4, None, value & (1 << 64) - 1, exchanges=False)
