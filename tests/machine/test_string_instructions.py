"""REP MOVS and REP STOS done by the host: nothing can be told from what the engine alone does."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.machine import strings
from bootbuild.machine.memory import Memory
from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor, Region, RegionKind
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    MEMORY,
    TABLES,
    Guest,
    finish,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

DATA, ELSEWHERE = 0x300000, 0x500000
NOISE = b"".join(hashlib.sha256(struct.pack("<I", n)).digest() for n in range(512))  #: 16 KiB
MOVSB, MOVSD, MOVSQ = b"\xf3\xa4", b"\xf3\xa5", b"\xf3\x48\xa5"
STOSB, STOSD, STOSQ = b"\xf3\xaa", b"\xf3\xab", b"\xf3\x48\xab"
STD = b"\xfd"
HLT = b"\xf4"
CALLED, CALLED_AGAIN = (b"\xe8" + struct.pack("<i", ELSEWHERE - CODE - at) for at in (5, 12))

CASES: dict[str, tuple[bytes, int, int, int]] = {  # code, RCX, RSI, RDI
    "none": (MOVSQ, 0, DATA, ELSEWHERE),
    "one": (MOVSQ, 1, DATA, ELSEWHERE),
    "few": (MOVSQ, 49, DATA, ELSEWHERE),
    "bytes": (MOVSB, 10_001, DATA + 1, ELSEWHERE + 3),
    "doublewords": (MOVSD, 4_001, DATA, ELSEWHERE + 2),
    "quadwords": (MOVSQ, 2_001, DATA, ELSEWHERE + 5),
    "across large pages": (MOVSQ, 2_000, DATA, 0x600000 - 4_004),
    "down": (STD + MOVSQ, 2_001, DATA + 16_008, ELSEWHERE + 16_000),
    "down across large pages": (STD + MOVSQ, 2_000, DATA + 15_992, 0x600000 + 4_004),
    "down by bytes": (STD + MOVSB, 5_000, DATA + 5_000, ELSEWHERE + 5_000),
    "onto itself, far": (MOVSQ, 2_000, DATA, DATA + 6_000),
    "onto itself, near": (MOVSB, 5_000, DATA, DATA + 3),
    "onto itself, nearer than an element": (MOVSQ, 200, DATA, DATA + 3),
    "onto itself, at no multiple of an element": (MOVSQ, 2_000, DATA, DATA + 100),
    "onto what lies before": (MOVSQ, 2_000, DATA + 100, DATA),
    "onto itself, down": (STD + MOVSQ, 1_000, DATA + 8_100, DATA + 8_000),
    "zeros": (STOSQ, 2_001, 0, ELSEWHERE + 1),
    "bytes of RAX": (STOSB, 5_000, 0, ELSEWHERE),
    "doublewords of RAX": (STOSD, 3_000, 0, ELSEWHERE),
    "quadwords of RAX": (STOSQ, 3_000, 0, ELSEWHERE),
    "stored down": (STD + STOSQ, 3_000, 0, ELSEWHERE + 24_000),
    "past the map": (STOSQ, 3_000, 0, 0x7FF000),
    "from past the map": (MOVSQ, 3_000, 0x7FF000, ELSEWHERE),
    "over code that has run, and runs again": (CALLED + STOSB + CALLED_AGAIN, 5_000, 0, ELSEWHERE - 100),
    "to a page that was read": (b"\x8a\x07" + STOSQ, 2_000, 0, 0x600000 - 4_000),  # mov al,[rdi]
    "to a page that was written": (b"\x88\x07" + STOSQ, 2_000, 0, ELSEWHERE),  # mov [rdi],al
    "over itself": (STOSB, 9_000, 0, CODE - 4_000),
}


def guest_of(code: bytes, count: int, source: int, target: int) -> Guest:
    registers = {"rcx": count, "rsi": source, "rdi": target, "rax": 0x1122_3344_5566_77F4}
    if code == STOSQ and target == ELSEWHERE + 1:
        registers["rax"] = 0
    return long_guest(code + HLT, registers=registers, memory={DATA: NOISE, ELSEWHERE: b"\x90\xc3"})


def end(one: Machine, **more: Any) -> tuple[object, ...]:
    """Everything that can be told of a run."""
    stop = finish(one, **more)
    memory = hashlib.sha256(one.read_physical(0, MEMORY)).hexdigest()
    return stop, one.instructions, one.blocks, one.events, dict(one.registers()), memory


def both(guest: Callable[[], Guest], machine: Make, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """The end with the host's help, which is that without."""
    helped = end(machine(guest()), **more)
    with monkeypatch.context() as without:
        without.setattr(strings, "_FEWEST", 1 << 70)
        alone = end(machine(guest()), **more)
    assert helped == alone
    return helped[0]


@pytest.mark.parametrize("name", CASES)
def test_the_host_leaves_what_the_engine_would_have_left(
    name: str, machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(lambda: guest_of(*CASES[name]), machine, monkeypatch)


def test_the_host_does_them(machine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"move": 0, "fill": 0}
    move, fill = Memory.move, Memory.fill

    def moved(memory: Memory, to: int, source: int, size: int) -> None:
        done["move"] += size
        move(memory, to, source, size)

    def filled(memory: Memory, address: int, pattern: bytes, count: int) -> None:
        done["fill"] += count * len(pattern)
        fill(memory, address, pattern, count)

    monkeypatch.setattr(Memory, "move", moved)
    monkeypatch.setattr(Memory, "fill", filled)
    finish(machine(guest_of(*CASES["quadwords"])))
    finish(machine(guest_of(*CASES["quadwords of RAX"])))
    assert done == {"move": 8 * 1_999, "fill": 8 * 2_998}  # without a page's first, and the last


@pytest.mark.parametrize("budget", [60, 1_000, 2_000, 2_001, 2_003])
def test_a_budget_ends_between_two_iterations(
    budget: int, machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = both(lambda: guest_of(*CASES["quadwords"]), machine, monkeypatch, budget=budget)
    assert stop.kind is (StopKind.BUDGET if budget < 2_003 else StopKind.HALTED)


PAGES = {  # entries of two neighbouring small pages
    "not neighbours in memory": (0x307003, 0x309003),
    "the second may not be written": (0x307003, 0x309001),
    "the second may not be written, and was": (0x307063, 0x309061),
    "the second may not be written, but WP is off": (0x307063, 0x309061),
    "the second is not there": (0x307003, 0x309002),
    "the second is not the user's, and was used": (0x307067, 0x309063),
    "written before": (0x307063, 0x309063),
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("code", [STOSQ, MOVSQ, STD + STOSQ], ids=["STOS", "MOVS", "STOS down"])
def test_each_page_is_asked_for(
    code: bytes, name: str, machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = code.startswith(STD)
    low, high = reversed(PAGES[name]) if down else PAGES[name]
    target = 0x400FF0 if down else 0x3FF010
    paging = {
        TABLES + 0x2008: struct.pack("<2Q", 0x20027, 0x21027),  # of 2 to 4 and 4 to 6 MiB
        0x20FF8: struct.pack("<Q", low),
        0x21000: struct.pack("<Q", high),
    }
    registers = {"rcx": 700, "rsi": 0x600000, "rdi": target, "rax": 0xABCDEF}
    user = "user" in name

    def guest() -> Guest:
        memory = {**tables(True), **identity(user), **paging, 0x600000: NOISE}
        mode = "long64-user" if user else "long64"
        cr0 = 0x8000_0031 if "WP" in name else 0x8001_0031
        return Guest(code + HLT, mode, long(user, registers=registers, cr0=cr0), memory)

    both(guest, machine, monkeypatch)


@pytest.mark.parametrize("kind", [RegionKind.ROM, RegionKind.RESERVED, RegionKind.MMIO])
@pytest.mark.parametrize("code", [STOSD, MOVSD], ids=["to", "from"])
def test_memory_that_is_not_ram_is_the_engines(
    kind: RegionKind, code: bytes, machine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guest() -> Guest:
        to, source = (MEMORY - 0x100, DATA) if code == STOSD else (DATA, MEMORY - 0x100)
        made = protected_guest(code + HLT, registers={"rcx": 200, "rdi": to, "rsi": source, "rax": 0x31})
        made.regions = (Region(Span(MEMORY, 0x1000), kind),)
        return made

    both(guest, machine, monkeypatch)


@pytest.mark.parametrize("base", [0, 0x1000])
def test_a_segment_s_base_counts(base: int, machine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def guest() -> Guest:
        registers = {"rcx": 900, "rdi": ELSEWHERE, "rsi": DATA}
        data = Descriptor(0x18, base=base, attributes=0xC093)
        made = protected_guest(MOVSD + HLT, registers=registers, es=data)
        made.memory[DATA] = NOISE
        return made

    both(guest, machine, monkeypatch)


def test_code_that_was_data_until_now_is_executed(machine: Make) -> None:
    # mov byte [0x600000],0xf4; jmp 0x600000: a part of RAM that nothing was fetched from
    one = machine(b"\xc6\x05\x00\x00\x60\x00\xf4\xe9" + struct.pack("<i", 0x600000 - CODE - 12))
    assert (finish(one).kind, one.get("eip")) == (StopKind.HALTED, 0x600001)
