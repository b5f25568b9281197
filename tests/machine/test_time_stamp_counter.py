"""The time-stamp counter goes on, and is the same in every run of a scene."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, Guest, finish, identity, long, long_guest, protected_guest, tables

Make = Callable[[Guest | bytes], Machine]

# Three readings with work of different length between them, stored at 0x90000.
READINGS = (
    b"\xbf\x00\x00\x09\x00"  # mov edi,0x90000
    b"\x0f\x31"  # rdtsc
    b"\xab"  # stosd
    b"\xb9\x64\x00\x00\x00"  # mov ecx,100
    b"\xe2\xfe"  # loop .
    b"\x0f\x31"  # rdtsc
    b"\xab"  # stosd
    b"\xb9\x0a\x00\x00\x00"  # mov ecx,10
    b"\xe2\xfe"  # loop .
    b"\x0f\x31"  # rdtsc
    b"\xab"  # stosd
    b"\xf4"  # hlt
)


def readings(machine: Machine) -> tuple[int, ...]:
    assert finish(machine).kind is StopKind.HALTED
    return struct.unpack("<3I", machine.read(0x90000, 12))


def test_two_runs_read_the_same(machine: Make) -> None:
    first, second, third = readings(machine(READINGS))
    assert readings(machine(READINGS)) == (first, second, third)
    assert 0 < first < second < third
    assert second - first > third - second  # what is executed counts


def test_a_run_in_pieces_reads_the_same(machine: Make) -> None:
    whole, pieces = machine(READINGS), machine(READINGS)
    while finish(pieces, budget=pieces.instructions + 7).kind is StopKind.BUDGET:
        pass
    assert struct.unpack("<3I", pieces.read(0x90000, 12)) == readings(whole)


def test_rdtscp_also_reads_tsc_aux(machine: Make) -> None:
    code = (
        b"\xb9\x03\x01\x00\xc0"  # mov ecx,0xc0000103
        b"\xb8\x77\x00\x00\x00"  # mov eax,0x77
        b"\x31\xd2"  # xor edx,edx
        b"\x0f\x30"  # wrmsr
        b"\x48\xc7\xc1\xff\xff\xff\xff"  # mov rcx,-1
        b"\x48\xc7\xc0\xff\xff\xff\xff"  # mov rax,-1
        b"\x48\xc7\xc2\xff\xff\xff\xff"  # mov rdx,-1
        b"\x0f\x01\xf9"  # rdtscp
        b"\xf4"  # hlt
    )
    stop = finish(machine(long_guest(code)))
    assert (stop.kind, stop.registers["rcx"], stop.registers["rdx"]) == (StopKind.HALTED, 0x77, 0)
    assert 0 < stop.registers["rax"] < 1 << 32


def test_the_counter_can_be_set(machine: Make) -> None:
    code = (
        b"\xb9\x10\x00\x00\x00"  # mov ecx,0x10
        b"\xba\x05\x00\x00\x00"  # mov edx,5
        b"\x31\xc0"  # xor eax,eax
        b"\x0f\x30"  # wrmsr
        b"\x0f\x31"  # rdtsc
        b"\x89\xd3"  # mov ebx,edx
        b"\x0f\x32"  # rdmsr
        b"\xf4"  # hlt
    )
    stop = finish(machine(code))
    assert (stop.registers["rbx"], stop.registers["rdx"]) == (5, 5)


@pytest.mark.parametrize(
    ("cr4", "ends"), [(0x620, HANDLERS + 13), (0x624, HANDLERS + 13)], ids=["TSD off", "TSD on"]
)
def test_tsd_keeps_ring_3_from_reading(cr4: int, ends: int, machine: Make) -> None:
    one = machine(Guest(b"\x0f\x31\xf4", "long64-user", long(True, cr4=cr4), tables(True) | identity(True)))
    assert finish(one).ip == ends + 1
    at = struct.unpack("<Q", one.read(one.get("rsp") + 8, 8))[0]
    assert at - CODE == (0 if cr4 & 4 else 2)  # RDTSC faults, or the HLT behind it


@pytest.mark.parametrize("code", [b"\x0f\xc7\xf0", b"\x66\x0f\xc7\xf0", b"\x0f\xc7\xf8"])
def test_random_numbers_cannot_make_two_runs_differ(code: bytes, machine: Make) -> None:
    one = machine(protected_guest(code))  # rdrand eax; rdrand ax; rdseed eax
    assert finish(one).ip == HANDLERS + 6 + 1
