"""Where an instruction is judged: by its own bytes and operands, however often it was right."""

from __future__ import annotations

import struct

import pytest

from bootbuild.machine.scan import Judged, sites
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, MEMORY, finish, gate64, long_guest
from strictness import Make


@pytest.mark.parametrize("times", [1, 100, 1000, 5000])
def test_a_site_is_judged_however_often_it_was_right(times: int, machine: Make) -> None:
    code = (
        b"\xb8\x00\x00\x20\x00"  # mov eax,0x200000
        b"\xb9" + struct.pack("<I", times) +  # mov ecx,times
        b"\x0f\x28\x00"  # movaps xmm0,[rax]
        b"\x48\x83\xc0\x10"  # add rax,16
        b"\xff\xc9"  # dec ecx
        b"\x75\xf5"  # jnz to the movaps
        b"\xf4"  # hlt
    )  # fmt: skip
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    late = code.removesuffix(b"\xf4") + (
        b"\x48\xff\xc0"  # inc rax
        b"\xeb\xf0"  # jmp to the movaps
    )
    one = machine(long_guest(late))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.detail for event in one.events] == [
        f"16-byte operand at {0x200001 + 16 * times:#x}: #GP(0)"
    ]


def test_another_instruction_at_a_judged_address_is_judged_by_its_own_operand(machine: Make) -> None:
    code = (
        b"\xb8\x00\x00\x20\x00"  # mov eax,0x200000
        b"\xbb\x08\x00\x20\x00"  # mov ebx,0x200008
        b"\x0f\x28\x00"  # movaps xmm0,[rax]
        b"\xc6\x04\x25\x0c\x00\x10\x00\x03"  # mov byte ptr [0x10000c],3: it becomes movaps xmm0,[rbx]
        b"\xeb\xf3"  # jmp to the movaps
    )
    one = machine(long_guest(code))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.detail for event in one.events] == ["16-byte operand at 0x200008: #GP(0)"]


def test_an_instruction_whose_page_table_entry_is_gone_is_judged_all_the_same(machine: Make) -> None:
    """The core still knows the translation, as a processor may."""
    code = (
        b"\x66\xc7\x04\x25\x00\x20\x01\x00\x00\x00"  # mov word ptr [0x12000],0
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x66\xc7\x04\x25\x00\x20\x01\x00\x83\x00"  # mov word ptr [0x12000],0x83
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
    assert one.get("eax") == 0xFEE00900


def test_the_last_instruction_before_what_is_not_mapped_is_judged(machine: Make) -> None:
    """Its handler makes the MOV to CR8 there one to CR0, and has it executed again."""
    at = MEMORY - 4
    handler = b"\xc6\x04\x25" + struct.pack("<I", at) + b"\x40"  # mov byte ptr [at],0x40
    handler += b"\x48\x83\xc4\x08\x48\xcf"  # add rsp,8; iretq
    guest = long_guest(
        b"\xb8\x10\x00\x00\x00\xe9" + struct.pack("<i", at - CODE - 10),  # mov eax,0x10; jmp at
        gates={13: gate64(0x103000)},
        memory={0x103000: handler, at: b"\x44\x0f\x22\xc0"},
    )
    one = machine(guest)
    finish(one, budget=30)
    assert [event.detail for event in one.events[:2]] == [
        "MOV of 0x10 to CR8: bits 63:4 are reserved: #GP(0)",
        "MOV of 0x10 to CR0: paging switched off in 64-bit code: #GP(0)",
    ]


def test_a_block_that_was_taken_apart_in_another_way_is_judged_at_every_byte() -> None:
    wrmsr = b"\x90\x0f\x30"
    assert [(at, what) for at, _, what in sites(wrmsr, 64)] == [(1, Judged.WRMSR)]
    assert sites(wrmsr + b"\x0f", 64) == tuple((at, None, None) for at in range(4))
    assert sites(b"\x90\x90\x0f", 64) == ()  # there is nothing that may be wrong


def test_code_written_over_a_judged_site_is_not_judged_by_it(machine: Make) -> None:
    # rdmsr of an MSR that is there, overwritten by two NOPs and executed with another index
    code = (
        b"\xb9\x1b\x00\x00\x00"  # mov ecx,0x1b
        b"\x0f\x32"  # rdmsr
        b"\x66\xc7\x04\x25\x05\x00\x10\x00\x90\x90"  # mov word ptr [0x100005],0x9090
        b"\x83\xf9\x1b"  # cmp ecx,0x1b
        b"\xb9\x99\x99\x00\x00"  # mov ecx,0x9999
        b"\x74\xea"  # je again
        b"\xf4"  # hlt
    )
    one = machine(long_guest(code))
    assert (finish(one).kind, one.events) == (StopKind.HALTED, ())
