"""Where this build of the engine keeps what its interface does not offer, found by experiment."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bootbuild.errors import MachineError, Problem
from bootbuild.machine.binding import VERSION, Uc, emulate, uc, x86
from bootbuild.machine.rules import SELF_TEST

GENERAL = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
"""Order of the general registers in CPUX86State and in instruction encodings."""

OLD_EXCEPTION = 112
"""From error_code to old_exception: exception_is_int, exception_next_eip, dr[8] and four pointers."""
_EFER = 592  #: in CPUX86State


@dataclass(frozen=True)
class Layout:
    """Where this build of the engine keeps what its interface does not offer; byte offsets."""

    state: int  #: CPUX86State in a saved context
    error_code: int  #: CPUX86State.error_code in a saved context
    counter: int  #: uc_struct.emu_counter from the engine's handle


@functools.cache
def registers() -> dict[str, int]:
    """The engine's register numbers, by the manuals' names in lower case."""
    prefix = "UC_X86_REG_"
    return {
        name[len(prefix) :].lower(): value for name, value in vars(x86).items() if name.startswith(prefix)
    }


def failure(message: str) -> MachineError:
    """The engine is not what this code was written for."""
    return MachineError(Problem(SELF_TEST, f"unicorn {VERSION}", message))


@functools.cache
def calibrate(mode: int = uc.UC_MODE_64) -> Layout:
    """Find, by experiment, where an engine of `mode` keeps its state. Raises MachineError (BB-B090).

    Three programs fault on purpose with known selectors, so that the error code is known; a fourth stops
    after a known number of instructions.
    """
    marks = [0x1111_0000_0000_0000 | index * 0x0101_0101 for index in range(16)]
    state: set[int] = set()
    errors: set[int] = set()
    image = b""
    for round_, selector in enumerate((0xABC8, 0x5678, 0x1238)):
        with _bare(b"\x8e\xd8\xf4", mode) as engine:  # mov ds, eax; hlt
            for name, mark in zip(GENERAL, marks, strict=True):
                engine.reg_write(registers()[name], mark)
            engine.reg_write(registers()["rax"], 0x1111_0000_0000_0000 | selector)
            engine.reg_write(registers()["gdtr"], (0, 0x2000, 0x17, 0))
            seen: list[bytes] = []

            def faulted(raised: Any, _vector: int, _data: Any, seen: list[bytes] = seen) -> None:
                seen.append(bytes(raised.context_save()))
                raised.emu_stop()

            engine.hook_add(uc.UC_HOOK_INTR, faulted)
            emulate(engine, 0x1000, count=10)
        if not seen:
            raise failure("a bad selector raises no exception")
        image = seen[0]
        regs = struct.pack("<16Q", 0x1111_0000_0000_0000 | selector, *marks[1:])
        found = _all(image, regs)
        codes = _all(image, struct.pack("<I", selector))
        state = found if not round_ else state & found
        errors = codes if not round_ else errors & codes
    if len(state) != 1:
        raise failure("the registers are not where they were in the saved state")
    base = state.pop()
    errors = {at for at in errors if at > base + _EFER}
    if len(errors) != 1:
        raise failure("the error code is not where it was in the saved state")
    error = errors.pop()
    if struct.unpack_from("<i", image, error + OLD_EXCEPTION)[0] != 13:
        raise failure("the exception in flight is not where it was in the saved state")
    if struct.unpack_from("<Q", image, base + _EFER)[0] & 0xFFFF != 0x500:
        raise failure("EFER is not where it was in the saved state")
    return Layout(state=base, error_code=error, counter=_counter(mode))


@contextmanager
def _bare(code: bytes, mode: int) -> Iterator[Any]:
    """An engine with `code` at 0x1000; its memory, some MiB, is given back at once."""
    engine = Uc(uc.UC_ARCH_X86, mode, x86.UC_CPU_X86_HASWELL)
    try:
        engine.mem_map(0, 0x10000)
        engine.mem_write(0x1000, code)
        yield engine
    finally:
        engine._Uc__finalizer()


def _counter(mode: int) -> int:
    """Offset of emu_counter: it stands before emu_count, whose value we choose (include/uc_priv.h)."""
    limit = 0x5A5A_1234_5678
    with _bare(b"\x90" * 6 + b"\xf4", mode) as engine:
        emulate(engine, 0x1000, count=limit)
        # struct uc_struct ends in a table of 64 jmp_buf: far more than the 4 KiB that are read here.
        places = _all(ctypes.string_at(engine._uch.value, 4096), struct.pack("<QQ", 7, limit))
    if len(places) != 1:
        raise failure("the instruction counter is not where it was")
    return places.pop()


def _all(haystack: bytes, needle: bytes) -> set[int]:
    found, at = set(), haystack.find(needle)
    while at >= 0:
        found.add(at)
        at = haystack.find(needle, at + 1)
    return found
