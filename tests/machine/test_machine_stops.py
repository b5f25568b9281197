"""Every way in which a run ends, with the rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.api.machine import Cpu, Platform
from bootbuild.machine.run import Machine
from bootbuild.model.machine import Region, RegionKind
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    HOLE,
    Box,
    Guest,
    finish,
    gate64,
    long_guest,
    protected_guest,
    scene,
)

Make = Callable[[Guest | bytes], Machine]

ROM = Region(Span(0xF00000, 0x1000), RegionKind.ROM)
RESERVED = Region(Span(0xF02000, 0x1000), RegionKind.RESERVED)
FREE = Region(Span(0xF02000, 0x1000), RegionKind.FREE)
DEVICE = Region(Span(0xF04000, 0x1000), RegionKind.MMIO)

ENDS = {
    "hlt with interrupts off": (b"\x90\xf4", StopKind.HALTED, "BB-B005", 2),
    "sti; hlt": (b"\xfb\xf4", StopKind.IDLE, "BB-B007", 2),
    "jmp .": (b"\xeb\xfe", StopKind.LOOP, "BB-B004", None),
    "inc eax; jmp": (b"\x40\xeb\xfd", StopKind.BUDGET, "BB-B006", 2_000_000),
    "ud2 without an IDT": (b"\x0f\x0b", StopKind.TRIPLE_FAULT, "BB-B001", 1),
    "mov eax, [hole]": (b"\xa1\x00\x00\x00\x40", StopKind.OUTSIDE, "BB-B002", 1),
    "mov [hole], eax": (b"\xa3\x00\x00\x00\x40", StopKind.OUTSIDE, "BB-B002", 1),
    "jmp hole": (b"\xe9\xfb\xff\xef\x3f", StopKind.OUTSIDE, "BB-B002", 1),
    "out 0x604": (b"\x66\xba\x04\x06\xef\x40\x40\xf4", StopKind.SHUTDOWN, "", 2),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_run_ends_as_hardware_would_and_names_the_rule(name: str, machine: Make) -> None:
    code, kind, rule, instructions = ENDS[name]
    one = machine(code)
    stop = finish(one, budget=2_000_000)
    assert (stop.kind, stop.rule) == (kind, rule)
    if instructions is not None:
        assert one.instructions == instructions
    assert stop.registers["cr0"] == 0x11
    assert any("code at" in line for line in stop.report)


def test_the_stop_after_a_port_is_exact(machine: Make) -> None:
    one = machine(b"\x66\xba\x04\x06\xef\x40\x40\xf4")  # mov dx, 0x604; out dx, eax; inc eax; inc eax; hlt
    finish(one)
    assert (one.get("eax"), one.get("rip")) == (0, CODE + 5)


def test_an_access_outside_tells_both_addresses(machine: Make) -> None:
    # The last page that the tables map is 16 MiB - 2 MiB on; RAM ends at 8 MiB.
    one = machine(long_guest(b"\x48\x8b\x04\x25\x08\x00\xa0\x00"))  # mov rax, [0xa00008]
    stop = finish(one)
    assert (stop.kind, stop.ip, stop.physical, stop.address) == (StopKind.OUTSIDE, CODE, 0xA00008, 0xA00008)


def test_rom_reads_as_data_and_drops_writes(machine: Make) -> None:
    code = (
        b"\xb8\x55\x00\x00\x00"  # mov eax, 0x55
        b"\xa3\x10\x00\xf0\x00"  # mov [0xf00010], eax
        b"\xa3\x10\x00\xf0\x00"  # again
        b"\xa1\x10\x00\xf0\x00"  # mov eax, [0xf00010]
        b"\xf4"
    )
    one = machine(Guest(code, regions=(ROM,), memory={0xF00010: b"\x78\x56\x34\x12"}))
    assert finish(one).kind is StopKind.HALTED
    assert one.get("eax") == 0x12345678
    assert [(event.kind, event.ip) for event in one.events] == [("rom-write", CODE + at) for at in (5, 10)]


ROM_WRITES = {  # instructions that write to ROM more than once: none of it remains
    "pusha": (b"\xbc\x20\x08\xf0\x00\x60\xf4", 3),  # mov esp, 0xf00820; pusha; hlt
    "fxsave": (b"\x0f\xae\x05\x00\x08\xf0\x00\xf4", 2),
    "fnsave": (b"\xdd\x35\x00\x08\xf0\x00\xf4", 2),
    "fld1; fld1; fbstp; fstp": (b"\xd9\xe8\xd9\xe8\xdf\x35\x00\x08\xf0\x00\xdb\x3d\x00\x08\xf0\x00\xf4", 5),
    "enter": (b"\xbc\x20\x08\xf0\x00\xbd\x20\x08\xf0\x00\xc8\x08\x00\x03\xf4", 4),  # mov esp; mov ebp
    "rep stosd": (
        b"\xbf\x00\x08\xf0\x00\xb9\x08\x00\x00\x00\xf3\xab\xf4",
        12,
    ),  # 8 times, and once for ECX = 0
}


@pytest.mark.parametrize("name", ROM_WRITES)
def test_all_writes_of_an_instruction_are_dropped(name: str, machine: Make) -> None:
    code, instructions = ROM_WRITES[name]
    old = bytes(range(256)) * 4
    state = {"registers": {"rax": 0x44332211}, "cr4": 0x200}
    one = machine(Guest(code, state=state, regions=(ROM,), memory={0xF00700: old}))
    assert (finish(one).kind, one.instructions) == (StopKind.HALTED, instructions)
    assert one.read(0xF00700, len(old)) == old
    assert {event.kind for event in one.events} == {"rom-write"}
    assert one.get("fpsw") >> 11 & 7 == 0  # TOP: nothing was pushed or popped twice, or never


def test_bytes_that_are_written_twice_are_as_they_were(machine: Make) -> None:
    # The second write covers the first: what it finds there is not what was there.
    one = machine(Guest(b"\xf4", regions=(ROM,), memory={0xF00000: b"abcd"}))
    with one._traps.dropping_writes():
        for address, data in ((0xF00001, b"x"), (0xF00000, b"yyyy")):
            assert one._traps._rom_write(address, len(data), "write")
            one.write_physical(address, data)
    assert one.read_physical(0xF00000, 4) == b"abcd"
    assert len(one.events) == 2


ACROSS = {  # address, further regions: what a store of 44 33 22 11 leaves there
    "from RAM into ROM": (0x7FFFFE, (Region(Span(0x800000, 0x1000), RegionKind.ROM),), "4433 0000"),
    "from ROM into RAM": (0xF00FFE, (ROM, Region(Span(0xF01000, 0x1000), RegionKind.RAM)), "0000 2211"),
    "from ROM to address 0": (0xFFFFFFFE, (Region(Span(0xFFFFF000, 0x1000), RegionKind.ROM),), "0000 2211"),
    "from RAM to address 0": (0xFFFFFFFE, (Region(Span(0xFFFFF000, 0x1000), RegionKind.RAM),), "4433 2211"),
}


@pytest.mark.parametrize("name", ACROSS)
def test_a_store_across_the_end_of_rom_or_of_4_gib_is_done_byte_by_byte(name: str, machine: Make) -> None:
    address, regions, left = ACROSS[name]
    code = b"\xb8\x44\x33\x22\x11\xa3" + address.to_bytes(4, "little") + b"\xf4"  # mov [address], eax; hlt
    one = machine(Guest(code, regions=regions))
    assert finish(one).kind is StopKind.HALTED
    assert one.read(address, 4) == bytes.fromhex(left)


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ((), StopKind.OUTSIDE),
        ((Region(Span(0xF01000, 0x1000), RegionKind.RESERVED),), StopKind.RESERVED_WRITE),
    ],
)
def test_what_lies_behind_rom_is_judged_for_itself(
    after: tuple[Region, ...], kind: StopKind, machine: Make
) -> None:
    one = machine(Guest(b"\xa3\xfe\x0f\xf0\x00\xf4", regions=(ROM, *after)))  # mov [0xf00ffe], eax
    stop = finish(one)
    assert (stop.kind, stop.physical, stop.address) == (kind, 0xF01000, 0xF01000)


def test_a_push_onto_a_stack_of_0_is_reported_with_a_32_bit_address(machine: Make) -> None:
    stop = finish(machine(b"\x50\xf4"))
    assert (stop.kind, stop.physical, stop.address) == (StopKind.OUTSIDE, 0xFFFFFFFC, 0xFFFFFFFC)


def test_reserved_memory_can_be_read(machine: Make) -> None:
    one = machine(
        Guest(b"\xa1\x00\x20\xf0\x00\xf4", regions=(RESERVED,), memory={0xF02000: b"\x0d\xf0\xad\x0b"})
    )
    assert finish(one).kind is StopKind.HALTED
    assert one.get("eax") == 0x0BADF00D


def test_a_write_to_reserved_memory_is_a_finding(machine: Make) -> None:
    one = machine(Guest(b"\xa3\x04\x20\xf0\x00\xf4", regions=(RESERVED,)))
    stop = finish(one)
    assert (stop.kind, stop.rule, stop.physical) == (StopKind.RESERVED_WRITE, "BB-B003", 0xF02004)
    assert one.read_physical(0xF02004, 4) == bytes(4)


def test_memory_that_is_nobodys_can_be_read_and_not_written(machine: Make) -> None:
    one = machine(Guest(b"\xa1\x00\x20\xf0\x00\xa3\x04\x20\xf0\x00\xf4", regions=(FREE,)))
    stop = finish(one)
    assert (stop.kind, stop.rule, stop.physical) == (StopKind.NOT_ALLOCATED, "BB-B077", 0xF02004)


class Giver(Platform):
    """Gives the guest a page at a write to port 1, and takes it back at one to port 2."""

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        cpu.retype(Span(0xF02000, 0x1000), {1: RegionKind.RAM, 2: RegionKind.FREE}[port])


def test_memory_becomes_the_guests_and_is_taken_back(machine: Make) -> None:
    regions = (Region(Span(0xF01000, 0x3000), RegionKind.FREE),)
    store = b"\xa3\x04\x20\xf0\x00"  # mov [0xf02004], eax
    one = machine(
        Guest(b"\xe6\x01" + store + b"\xe6\x02" + store + b"\xf4", platform=Giver(), regions=regions)
    )
    stop = finish(one)
    assert (stop.kind, stop.physical) == (StopKind.NOT_ALLOCATED, 0xF02004)
    assert one.instructions == 4
    assert [region.span for region in one._memory.regions if region.span.start in regions[0].span] == [
        Span(at, 0x1000) for at in (0xF01000, 0xF02000, 0xF03000)
    ]


class Joiner(Platform):
    """Makes two pieces of memory one region at a write to a port."""

    def port_out(self, cpu: Cpu, port: int, size: int, value: int) -> None:
        cpu.retype(Span(0xF01000, 0x2000), RegionKind.RAM)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("be 00 00 f0 00 bf 80 1f f0 00 b9 00 01 00 00 f3 a4", bytes(range(256))),  # rep movsb
        ("b8 99 99 99 99 bf 80 1f f0 00 b9 40 00 00 00 f3 ab", b"\x99" * 256),  # rep stosd
    ],
)
def test_a_long_move_crosses_from_one_piece_of_memory_to_the_next(
    machine: Make, code: str, expected: bytes
) -> None:
    regions = tuple(Region(Span(at, 0x1000), RegionKind.RAM) for at in (0xF00000, 0xF01000, 0xF02000))
    one = machine(Guest(b"\xe6\x01" + bytes.fromhex(code) + b"\xf4", platform=Joiner(), regions=regions))
    one.write_physical(0xF00000, bytes(range(256)))
    finish(one)
    assert one.read_physical(0xF01F80, 256) == expected
    assert one.read_physical(0xF02080, 16) == bytes(16)


def test_what_is_the_guests_to_write_is_known(machine: Make) -> None:
    regions = (Region(Span(0xF01000, 0x3000), RegionKind.FREE),)
    one = machine(Guest(b"\xe6\x01\xf4", platform=Giver(), regions=regions))
    page = Span(0xF02000, 0x1000)
    assert not one.writable(page)
    finish(one)
    assert one.writable(page)
    assert one.writable(Span(0, 0x1000))
    assert not one.writable(Span(0xF02000, 0x1001))
    assert not one.writable(Span(0xF01FFF, 2))


def test_the_pages_beside_are_not_given_with_it(machine: Make) -> None:
    regions = (Region(Span(0xF01000, 0x3000), RegionKind.FREE),)
    for behind in (0xF01FFC, 0xF03000):
        store = b"\xa3" + behind.to_bytes(4, "little")
        stop = finish(machine(Guest(b"\xe6\x01" + store + b"\xf4", platform=Giver(), regions=regions)))
        assert (stop.kind, stop.physical) == (StopKind.NOT_ALLOCATED, behind)


def test_the_platform_answers_for_a_device(machine: Make) -> None:
    code = b"\xa1\x08\x40\xf0\x00\x66\xa3\x0c\x40\xf0\x00\xf4"  # mov eax, [dev+8]; mov [dev+12], ax; hlt
    box = Box()
    one = machine(Guest(code, regions=(DEVICE,), platform=box))
    assert finish(one).kind is StopKind.HALTED
    assert one.get("eax") == 0x55667788
    assert box.asked == [("read", 0xF04008, 4), ("write", 0xF0400C, 2, 0x7788)]


def test_text_on_the_console_ends_the_run_where_it_appears_and_once(machine: Make) -> None:
    one = machine(b"\xb0\x4f\xe6\xe9\xb0\x4b\xe6\xe9\x40\xe6\xe9\xf4")  # "O", "K", inc eax, "L"
    stop = finish(one, console=b"OK")
    assert (stop.kind, one.instructions, one.get("rip")) == (StopKind.CONSOLE, 4, CODE + 8)
    assert finish(one, console=b"OK").kind is StopKind.HALTED
    assert bytes(one.scene.platform.console) == b"OKL"


def test_a_checkpoint_stops_before_its_instruction_and_lets_go_on(machine: Make) -> None:
    one = machine(b"\x40\x40\x40\xeb\xfc")  # inc eax three times; jmp to the second
    points = {CODE: "start", CODE + 1: "second"}
    seen = [finish(one, checkpoints=points) for _ in range(4)]
    assert [stop.checkpoint for stop in seen] == ["start", "second", "second", "second"]
    assert [stop.registers["rax"] for stop in seen] == [0, 1, 3, 5]
    assert one.instructions == 1 + 3 + 3


def test_a_checkpoint_set_later_is_seen_by_code_that_has_run(machine: Make) -> None:
    one = machine(b"\x40\xeb\xfd")
    assert finish(one, budget=1000).kind is StopKind.BUDGET
    stop = finish(one, checkpoints={CODE: "top"}, budget=2000)
    assert (stop.kind, one.instructions) == (StopKind.CHECKPOINT, 1000)


@pytest.mark.parametrize("code", [b"\x90\x0f\x01\xc1\xf4", b"\x90\x0f\x0b\xf4"], ids=["vmcall", "ud2"])
def test_a_checkpoint_may_lie_on_an_instruction_that_the_engine_does_not_know(
    code: bytes, machine: Make
) -> None:
    stop = finish(machine(code), checkpoints={CODE + 1: "here"})
    assert (stop.kind, stop.ip) == (StopKind.CHECKPOINT, CODE + 1)


def test_a_loop_that_calls_is_proved(machine: Make) -> None:
    one = machine(
        protected_guest(b"\xe8\x02\x00\x00\x00\xeb\xf9\x50\x58\xc3")
    )  # call f; jmp; f: push, pop, ret
    assert finish(one, budget=5_000_000).kind is StopKind.LOOP
    assert one.instructions < 1_100_000


@pytest.mark.parametrize(
    "code",
    [
        b"\xff\x05\x00\x00\x09\x00\xeb\xf8",  # inc dword [0x90000]; jmp: only memory changes
        b"\x31\xc0\xe4\x60\x31\xc0\xeb\xf8",  # xor eax, eax; in al, 0x60; …; jmp: a device may change
        b"\x49\x75\xfd\x49\xeb\xfa",  # dec ecx; jnz; dec ecx; jmp
    ],
    ids=["memory", "port", "register"],
)
def test_what_still_moves_is_no_loop(code: bytes, machine: Make) -> None:
    assert finish(machine(code), budget=1_500_000).kind is StopKind.BUDGET


FAR = 0x201000  #: room for much code
IRET = b"\x48\xcf"
EXCEPTIONS = {  # what raises it, the vector, the handler
    "a fault that the handler returns to": (b"\x0f\x0b", 6, IRET),
    "a page fault": (b"\x8b\x04\x25\x00\x00\x00\x30", 14, b"\x48\x83\xc4\x08" + IRET),
    "int n": (b"\xcd\x42\xeb\xfc", 0x42, IRET),
    "a violation": (b"\x0f\x33", 13, b"\x48\x83\xc4\x08" + IRET),  # rdpmc; add rsp, 8; iretq
}


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_without_end_are_a_loop(name: str, machine: Make) -> None:
    code, vector, back = EXCEPTIONS[name]
    guest = long_guest(code, gates={vector: gate64(CODE + 0x100)}, memory={CODE + 0x100: back})
    one = machine(guest)
    stop = finish(one, budget=1 << 40)
    assert (stop.kind, stop.rule) == (StopKind.LOOP, "BB-B004")
    assert one.instructions < 2000


COUNTERS = {
    "a debug register": b"\x0f\x21\xc0\xff\xc0\x0f\x23\xc0\x31\xc0",  # inc DR0, by way of EAX; xor eax, eax
    "TSC_AUX": b"\xb9\x03\x01\x00\xc0\x0f\x32\xff\xc0\x0f\x30\x31\xc0\x31\xd2",
    "FS.base": b"\xb9\x00\x01\x00\xc0\x0f\x32\xff\xc0\x0f\x30\x31\xc0",
    "an SSE register": b"\x66\x0f\x76\xc9\x66\x0f\xfa\xc1",  # pcmpeqd xmm1, xmm1; psubd xmm0, xmm1
}


@pytest.mark.parametrize("name", COUNTERS)
def test_a_count_is_seen_wherever_the_core_keeps_it(name: str, machine: Make) -> None:
    code = COUNTERS[name] + b"\xcd\x42"  # int 0x42, which looks for a repetition after a few hundred
    code += b"\xeb" + (-len(code) - 2 & 0xFF).to_bytes(1, "little")
    one = machine(long_guest(code, gates={0x42: gate64(CODE + 0x100)}, memory={CODE + 0x100: IRET}))
    assert finish(one, budget=10_000).kind is StopKind.BUDGET


def counting(raises: bytes, **more: Any) -> Guest:
    """inc dword [0x200000]; cmp dword [0x200000], 1000; ja 1f; `raises`; jmp to the first; 1: hlt."""
    count = b"\x00\x00\x20\x00"
    code = b"\xff\x04\x25" + count + b"\x81\x3c\x25" + count + (1000).to_bytes(4, "little")
    code += b"\x77" + bytes([len(raises) + 2]) + raises
    code += b"\xeb" + (-len(code) - 2 & 0xFF).to_bytes(1, "little") + b"\xf4"
    return long_guest(code, **more)


def test_a_handler_that_counts_in_memory_is_no_loop(machine: Make) -> None:
    skip = b"\x48\x83\x04\x24\x02" + IRET  # add qword [rsp], 2; iretq
    memory = {0x200000: bytes(4), CODE + 0x100: skip}
    one = machine(counting(b"\x0f\x0b", gates={6: gate64(CODE + 0x100)}, memory=memory))
    assert finish(one).kind is StopKind.HALTED
    assert one.instructions == 1000 * 7 + 4


def test_interrupts_that_differ_only_in_their_frame_are_no_loop(machine: Make) -> None:
    guest = long_guest(b"\xcd\x42" * 600 + b"\xf4", gates={0x42: gate64(FAR)}, memory={FAR: IRET})
    assert finish(machine(guest)).kind is StopKind.HALTED


@pytest.mark.parametrize(
    ("code", "vector"), [(b"\x0f\x0b", 6), (b"\xcd\x42\xeb\xfc", 0x42)], ids=["fault", "int n"]
)
def test_a_platform_that_is_asked_may_count(code: bytes, vector: int, machine: Make) -> None:
    class Counting(Box):
        asked_for = 0

        def exception(self, cpu: Cpu, vector: int, error_code: int = 0) -> bool:
            self.asked_for += 1
            if self.asked_for == 1000:
                cpu.set("rip", CODE + len(code))
            return self.asked_for == 1000

        interrupt = exception

    gates = {vector: gate64(CODE + 0x100)}
    guest = long_guest(code + b"\xf4", gates=gates, memory={CODE + 0x100: IRET})
    guest.platform = Counting()
    assert finish(machine(guest)).kind is StopKind.HALTED


def test_looking_for_a_loop_changes_no_fault(machine: Make) -> None:
    # UD2 on a stack that is not mapped: #PF on a stack of its own, whose handler skips the UD2.
    skip = b"\x48\x83\x44\x24\x08\x02\x48\x83\xc4\x08" + IRET  # add qword [rsp+8], 2; add rsp, 8; iretq
    memory = {0x200000: bytes(4), CODE + 0x100: skip}
    gates = {14: gate64(CODE + 0x100, ist=1)}
    one = machine(counting(b"\x0f\x0b", gates=gates, memory=memory, registers={"rsp": HOLE}))
    assert finish(one).kind is StopKind.HALTED
    assert one.instructions == 1000 * 8 + 4


def test_the_clock_proves_nothing_but_ends_the_run(machine: Make) -> None:
    stop = finish(machine(b"\x40\xeb\xfd"), budget=1 << 40, seconds=0.2)
    assert (stop.kind, stop.rule) == (StopKind.TIME, "")


@pytest.mark.parametrize("code", [b"\x0f\x31\xeb\xfc", b"\xe4\x60\xeb\xfc", b"\x0f\xa2\xeb\xfc"])
def test_the_clock_is_looked_at_in_slow_instructions_too(code: bytes, machine: Make) -> None:
    stop = finish(machine(code), budget=1 << 40, seconds=0.1)
    assert stop.kind is StopKind.TIME


SLOW = {  # code at FAR
    "blocks that run once each": b"\xeb\x00" * 100_000,  # jmp .+2
    "places to watch in every block": b"\xb8\x0f\x30\x0f\x30\xeb\x00" * 20_000,  # like WRMSR
}


@pytest.mark.parametrize("name", SLOW)
def test_the_clock_is_looked_at_within_a_million_slow_instructions(name: str, machine: Make) -> None:
    guest = Guest(b"\xe9" + (FAR - CODE - 5).to_bytes(4, "little"))
    guest.memory[FAR] = SLOW[name] + b"\xf4"
    one = machine(guest)
    assert finish(one, budget=200_000, seconds=0.1).kind is StopKind.TIME
    assert one.instructions < 40_000


def test_an_error_in_the_platform_surfaces() -> None:
    class Broken(Box):
        def port_in(self, cpu: object, port: int, size: int) -> int:
            raise RuntimeError("broken device")

    with (
        Machine(scene(Guest(b"\xe4\x60\xf4", platform=Broken()))) as one,
        pytest.raises(RuntimeError, match="broken"),
    ):
        finish(one)


def test_page_tables_outside_memory_are_named(machine: Make) -> None:
    guest = long_guest(
        b"\x48\x8b\x04\x25\x00\x00\x00\x40", memory={0x11008: (HOLE | 3).to_bytes(8, "little")}
    )
    stop = finish(machine(guest))
    assert (stop.kind, stop.physical) == (StopKind.OUTSIDE, HOLE)
