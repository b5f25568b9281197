"""What is #UD on hardware: LOCK where it may not be, and instructions that are switched off or not there.

Source: Intel SDM volume 2, LOCK and the instructions' own pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, Guest, finish, identity, long, long_guest, protected_guest, tables

Make = Callable[[Guest | bytes], Machine]

UNDEFINED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "lock mov to a register": (b"\xf0\x89\xc0", {}),
    "lock mov to memory": (b"\xf0\x89\x06", {}),
    "lock mov of a constant": (b"\xf0\xc7\x06\x01\x00\x00\x00", {}),
    "lock add to a register": (b"\xf0\x01\xc0", {}),
    "lock add from memory": (b"\xf0\x03\x06", {}),
    "lock add to al": (b"\xf0\x04\x01", {}),
    "lock cmp": (b"\xf0\x39\x06", {}),
    "lock cmp with a constant": (b"\xf0\x83\x3e\x01", {}),
    "lock test": (b"\xf0\xf7\x06\x01\x00\x00\x00", {}),
    "lock mul": (b"\xf0\xf7\x26", {}),
    "lock shl": (b"\xf0\xd1\x26", {}),
    "lock push": (b"\xf0\xff\x36", {}),
    "lock bt": (b"\xf0\x0f\xa3\x06", {}),
    "lock bt with a constant": (b"\xf0\x0f\xba\x26\x01", {}),
    "lock imul": (b"\xf0\x0f\xaf\x06", {}),
    "lock movsb": (b"\xf0\xa4", {}),
    "lock nop": (b"\xf0\x90", {}),
    "lock jmp": (b"\xf0\xeb\x00", {}),
    "lock cpuid": (b"\xf0\x0f\xa2", {}),
    "lock mov to cr0": (b"\xf0\x0f\x22\xc0", {}),
    "lock wrmsr": (b"\xf0\x0f\x30", {}),
    "lock movaps": (b"\xf0\x0f\x28\x06", {}),
    "lock behind another prefix": (b"\x2e\xf0\x89\x06", {}),
    "lock before another prefix": (b"\xf0\x66\x89\x06", {}),
    "rdrand": (b"\x0f\xc7\xf0", {}),
    "rdseed": (b"\x0f\xc7\xf8", {}),
    "mov to cr1": (b"\x0f\x22\xc8", {}),
    "mov to cr5": (b"\x0f\x22\xe8", {}),
    "mov to dr4 with CR4.DE": (b"\x0f\x23\xe0", {"cr4": 0x628, "registers": {"rax": 1 << 32}}),
}
LONG_ONLY: dict[str, tuple[bytes, dict[str, Any]]] = {
    "mov to dr14": (b"\x44\x0f\x23\xf0", {"registers": {"rax": 1 << 32}}),
    "lock mov, rex": (b"\xf0\x48\x89\x06", {}),
    "wrfsbase without CR4.FSGSBASE": (b"\xf3\x48\x0f\xae\xd0", {}),
    "wrgsbase without CR4.FSGSBASE": (b"\xf3\x48\x0f\xae\xd8", {"registers": {"rax": 1 << 47}}),
}
LOCKED = {
    "add": b"\x01\x06",
    "or": b"\x08\x06",
    "adc": b"\x11\x06",
    "sbb": b"\x19\x06",
    "and": b"\x21\x06",
    "sub": b"\x29\x06",
    "xor": b"\x31\x06",
    "add of a constant": b"\x83\x06\x01",
    "xor of a constant": b"\x81\x36\x01\x02\x03\x04",
    "not": b"\xf7\x16",
    "neg": b"\xf6\x1e",
    "inc": b"\xff\x06",
    "dec": b"\xfe\x0e",
    "xchg": b"\x87\x06",
    "bts": b"\x0f\xab\x06",
    "btr of a constant": b"\x0f\xba\x36\x01",
    "btc": b"\x0f\xbb\x06",
    "btr": b"\x0f\xb3\x06",
    "cmpxchg": b"\x0f\xb1\x0e",
    "cmpxchg8b": b"\x0f\xc7\x0e",
    "xadd": b"\x0f\xc1\x06",
}


def raised(one: Machine) -> tuple[int, int]:
    """The vector, and the address that was pushed."""
    vector = finish(one).ip - 1 - HANDLERS
    size = 8 if one.get("efer") & 1 << 10 else 4
    return vector, int.from_bytes(one.read(one.get("rsp"), size), "little")


@pytest.mark.parametrize("name", UNDEFINED)
def test_it_is_undefined_in_32_bits(name: str, machine: Make) -> None:
    code, state = UNDEFINED[name]
    one = machine(protected_guest(code + b"\xf4", **{"registers": {"rsi": 0x200000}, **state}))
    assert raised(one) == (6, CODE)
    assert one.events == ()


@pytest.mark.parametrize("name", UNDEFINED | LONG_ONLY)
def test_it_is_undefined_in_64_bits(name: str, machine: Make) -> None:
    code, state = (UNDEFINED | LONG_ONLY)[name]
    one = machine(long_guest(code + b"\xf4", **{"registers": {"rsi": 0x200000}, **state}))
    assert raised(one) == (6, CODE)
    assert one.events == ()


@pytest.mark.parametrize("make", [protected_guest, long_guest], ids=["32", "64"])
@pytest.mark.parametrize("name", LOCKED)
def test_lock_may_stand_before_what_reads_and_writes_memory(
    name: str, make: Callable[..., Guest], machine: Make
) -> None:
    code = b"\xf0" + LOCKED[name] + b"\xf4"
    stop = finish(machine(make(code, registers={"rsi": 0x200000})))
    assert (stop.kind, stop.ip) == (StopKind.HALTED, CODE + len(code))


def test_lock_in_ring_3(machine: Make) -> None:
    one = machine(Guest(b"\xf0\x89\x06\xf4", "long64-user", long(True), tables(True) | identity(True)))
    assert raised(one) == (6, CODE)


def test_a_constant_that_looks_like_lock_is_none(machine: Make) -> None:
    one = machine(long_guest(b"\xb8\xf0\x89\xf0\x89\x89\xf0\xf4"))  # mov eax,0x89f089f0; mov eax,esi
    assert finish(one).ip == CODE + 8
