"""Blocks are listed in the order in which they first ran, the first one included, the same in every run."""

from __future__ import annotations

import struct
from collections.abc import Callable

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import CODE, HANDLERS, TABLES, Guest, finish, gate32, long_guest, protected_guest

Make = Callable[[Guest | bytes], Machine]

# nop; jmp to d; b: inc eax; jmp to c; c: hlt; d: call b's neighbour; jmp b
CODE_OUT_OF_ORDER = (
    b"\x90"  # nop
    b"\xeb\x04"  # jmp 4f
    b"\x40"  # inc eax
    b"\xeb\x00"  # jmp 3f
    b"\xf4"  # hlt
    b"\x31\xc0"  # xor eax,eax
    b"\xeb\xf8"  # jmp 2b
)


def starts(machine: Machine) -> list[int]:
    return [address - CODE for address, _ in machine.blocks]


def test_blocks_come_in_the_order_of_first_execution(machine: Make) -> None:
    one = machine(CODE_OUT_OF_ORDER)
    finish(one)
    assert one.blocks == ((CODE, 3), (CODE + 7, 4), (CODE + 3, 3), (CODE + 6, 1))


def test_a_block_is_listed_once(machine: Make) -> None:
    one = machine(b"\xb9\x05\x00\x00\x00\x49\x75\xfd\xf4")  # mov ecx,5; 1: dec ecx; jnz 1b; hlt
    finish(one)
    assert one.blocks == ((CODE, 8), (CODE + 5, 3), (CODE + 8, 1))


def test_the_first_block_may_be_all_there_is(machine: Make) -> None:
    one = machine(b"\xf4")
    finish(one)
    assert one.blocks == ((CODE, 1),)


def test_a_block_ends_before_an_instruction_that_is_watched_in_no_way(machine: Make) -> None:
    # That RDMSR is done by the machine and not by the engine cannot be seen in the trace.
    one, other = (
        machine(b"\xb9\x1b\0\0\0\x90\x0f\x32\x90\xf4"),
        machine(b"\xb9\x1b\0\0\0\x90\x0f\x31\x90\xf4"),
    )
    finish(one)
    finish(other)
    assert one.blocks[0][0] == other.blocks[0][0] == CODE
    assert one.instructions == other.instructions == 5


def test_two_runs_have_the_same_trace(machine: Make) -> None:
    code = (
        b"\xb9\x32\x00\x00\x00"  # mov ecx,50
        b"\xf6\xc1\x03"  # test cl,3
        b"\x74\x04"  # jz 2f
        b"\x0f\xa2"  # cpuid
        b"\x89\xd9"  # mov ecx,ebx
        b"\x0f\x31"  # rdtsc
        b"\x83\xe1\x3f"  # and ecx,63
        b"\x49"  # dec ecx
        b"\x79\xef"  # jns 1b
        b"\xf4"  # hlt
    )
    one, other = machine(code), machine(code)
    assert finish(one, budget=5000) == finish(other, budget=5000)
    assert one.blocks == other.blocks
    assert len(one.blocks) > 3


def test_a_run_in_pieces_has_the_same_trace(machine: Make) -> None:
    whole, pieces = machine(CODE_OUT_OF_ORDER), machine(CODE_OUT_OF_ORDER)
    finish(whole)
    for budget in range(1, 20):
        if finish(pieces, budget=budget).kind is StopKind.HALTED:
            break
    assert (pieces.blocks, pieces.instructions) == (whole.blocks, whole.instructions)


def test_a_block_across_two_pages_that_was_left_half_done_is_listed_once(machine: Make) -> None:
    code = {CODE + 0xFFC: b"\x40\x40\x40\x05\x01\x00\x00\x00\x40\x40\xeb\x00\xf4"}  # inc …, add eax, 1
    whole, pieces = (machine(Guest(b"\xe9\xf7\x0f\x00\x00", memory=code)) for _ in range(2))
    finish(whole)
    for budget in range(1, 20):
        if finish(pieces, budget=budget).kind is StopKind.HALTED:
            break
    assert (pieces.blocks, pieces.instructions) == (whole.blocks, whole.instructions)


def test_a_checkpoint_leaves_no_mark(machine: Make) -> None:
    whole, stopped = machine(CODE_OUT_OF_ORDER), machine(CODE_OUT_OF_ORDER)
    finish(whole)
    while finish(stopped, checkpoints={CODE + 4: "inside", CODE + 3: "start"}).kind is StopKind.CHECKPOINT:
        pass
    assert stopped.blocks == whole.blocks


def test_code_executed_at_two_addresses_is_listed_at_both(machine: Make) -> None:
    # 2 MiB at 0x400000 show the same memory as those at 0: call it here, then there
    guest = long_guest(
        (
            b"\xb8\x00\x01\x10\x00"  # mov eax,0x100100
            b"\xff\xd0"  # call rax
            b"\xb8\x00\x01\x50\x00"  # mov eax,0x500100
            b"\xff\xd0"  # call rax
            b"\xf4"  # hlt
        ),
        memory={CODE + 0x100: b"\xff\xc3\xc3", TABLES + 0x2010: struct.pack("<Q", 0x83)},  # inc ebx; ret
    )
    one = machine(guest)
    assert finish(one).registers["rbx"] == 2
    assert [address for address, _ in one.blocks] == [CODE, CODE + 0x100, CODE + 7, 0x500100, CODE + 14]


def test_code_that_the_guest_rewrites_runs_anew(machine: Make) -> None:
    # inc ebx becomes dec ebx after its first execution
    code = (
        b"\xb9\x02\x00\x00\x00"  # mov ecx,2
        b"\x43"  # inc ebx
        b"\xc6\x05\x05\x00\x10\x00\x4b"  # mov byte ptr [1b],0x4b
        b"\x49"  # dec ecx
        b"\x75\xf5"  # jnz 1b
        b"\xf4"  # hlt
    )
    one, other = machine(code), machine(code)
    stop = finish(one)
    assert (stop.kind, stop.registers["rbx"]) == (StopKind.HALTED, 0)
    assert starts(one)[0] == 0
    finish(other)
    assert (other.blocks, other.instructions) == (one.blocks, one.instructions)


def test_an_instruction_may_rewrite_the_next_one(machine: Make) -> None:
    one = machine(b"\xc6\x05\x07\x00\x10\x00\x4b\x43\xf4")  # mov byte ptr [1f],0x4b; 1: inc ebx; hlt
    assert finish(one).registers["rbx"] == 0xFFFFFFFF


def test_a_handler_is_a_block(machine: Make) -> None:
    one = machine(protected_guest(b"\x90\xcd\x42", gates={0x42: gate32(HANDLERS + 0x42)}))
    finish(one)
    assert [address for address, _ in one.blocks] == [CODE, HANDLERS + 0x42]


def test_blocks_of_the_high_half_have_their_linear_addresses(machine: Make) -> None:
    high = 0xFFFF_FFFF_8000_0000
    guest = long_guest(
        b"\x48\xc7\xc0\x00\x01\x10\x80\xff\xe0",  # mov rax,0xffffffff80100100; jmp rax
        memory={
            CODE + 0x100: b"\xf4",
            TABLES + 511 * 8: struct.pack("<Q", TABLES + 0x1000 | 3),
            TABLES + 0x1000 + 510 * 8: struct.pack("<Q", TABLES + 0x2000 | 3),
        },
    )
    one = machine(guest)
    stop = finish(one)
    assert stop.ip == high + CODE + 0x101
    assert [address for address, _ in one.blocks] == [CODE, high + CODE + 0x100]
