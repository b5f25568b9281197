"""Who may use an I/O port: the engine asks neither IOPL nor the task state (SDM 1, 19.5)."""

from __future__ import annotations

import functools
import re

from bootbuild.machine.calibrate import GENERAL
from bootbuild.machine.engine import Core
from bootbuild.machine.operand import ONE_BYTE, PREFIXES, decode
from bootbuild.machine.paging import Paging

_OPCODE = re.compile(rb"[\x6c-\x6f\xe4-\xe7\xec-\xef]")  #: INS, OUTS, IN and OUT
_RDX = GENERAL.index("rdx")
_MAP_BASE = 0x66  #: offset of the 16-bit I/O map base in a 32- or 64-bit task state


@functools.lru_cache(maxsize=4096)
def sites(code: bytes, bits: int) -> tuple[int, ...]:
    """Offsets of the port accesses in a whole block of code.

    A hook costs every instruction that is counted, and one byte in twenty looks like one of these. Where the
    block's end is not that of an instruction, any byte may be the start of one.
    """
    if not _OPCODE.search(code):
        return ()
    found: list[int] = []
    at = 0
    while at < len(code) and (one := decode(code, bits, at)):
        if one.map == ONE_BYTE and _OPCODE.match(bytes((one.opcode,))):
            found.append(at)
        at += one.length
    return tuple(found) if at == len(code) else tuple(range(len(code)))


def port_of(core: Core, code: bytes) -> tuple[int, int] | None:
    """Port and size in bytes of the port access at the start of `code`; None if it is another instruction."""
    at = 0
    while at < len(code) and (code[at] in PREFIXES or (core.code64 and code[at] & 0xF0 == 0x40)):
        at += 1
    if at + 1 >= len(code) or not _OPCODE.match(code, at):
        return None
    opcode = code[at]
    wide = core.code64 or core.segment("cs").big != (0x66 in code[:at])
    if core.code64 and 0x66 in code[:at]:
        wide = False
    size = 1 if not opcode & 1 else 4 if wide else 2
    port = code[at + 1] if opcode & 0xF8 == 0xE0 else core.general()[_RDX] & 0xFFFF
    return port, size


def permitted(core: Core, paging: Paging, port: int, size: int) -> bool:
    """Whether the present privilege level may use the port. Raises PageFault from the task state."""
    if core.cpl <= core.get("rflags") >> 12 & 3:
        return True
    task = core.segment("tr")
    if task.flags & 0x8D00 != 0x8900 or task.limit < _MAP_BASE + 1:
        return False
    base = int.from_bytes(paging.system_read(task.base + _MAP_BASE, 2), "little")
    at = base + port // 8
    if at + 1 > task.limit:
        return False
    bits = int.from_bytes(paging.system_read(task.base + at, 2), "little")
    return not bits >> port % 8 & (1 << size) - 1
