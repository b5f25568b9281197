"""IN and OUT in every size and form reach the platform, one call for each access."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.api.machine import Platform
from bootbuild.machine import ports
from bootbuild.machine.run import Machine
from bootbuild.model.machine import Descriptor
from bootbuild.model.trace import StopKind
from bootbuild.platform.pc import Pc
from machine_guests import (
    GDT,
    HANDLERS,
    TSS,
    Box,
    Guest,
    finish,
    gate64,
    handler,
    identity,
    long,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

SETUP = (
    b"\xb8\x78\x56\x34\x12"  # mov eax,0x12345678
    b"\xba\xf8\x03\x00\x00"  # mov edx,0x3f8
    b"\xbe\x00\x00\x09\x00"  # mov esi,0x90000
    b"\xbf\x00\x01\x09\x00"  # mov edi,0x90100
    b"\xb9\x03\x00\x00\x00"  # mov ecx,3
    b"\xfc"  # cld
)
FORMS = {  # code after SETUP; what the platform is asked
    "out imm8, al": (b"\xe6\x80", [("out", 0x80, 1, 0x78)]),
    "out imm8, ax": (b"\x66\xe7\x80", [("out", 0x80, 2, 0x5678)]),
    "out imm8, eax": (b"\xe7\x80", [("out", 0x80, 4, 0x12345678)]),
    "out dx, al": (b"\xee", [("out", 0x3F8, 1, 0x78)]),
    "out dx, ax": (b"\x66\xef", [("out", 0x3F8, 2, 0x5678)]),
    "out dx, eax": (b"\xef", [("out", 0x3F8, 4, 0x12345678)]),
    "in al, imm8": (b"\xe4\x80", [("in", 0x80, 1)]),
    "in ax, dx": (b"\x66\xed", [("in", 0x3F8, 2)]),
    "in eax, dx": (b"\xed", [("in", 0x3F8, 4)]),
    "outsb": (b"\x6e", [("out", 0x3F8, 1, 0x41)]),
    "rep outsb": (b"\xf3\x6e", [("out", 0x3F8, 1, at) for at in b"ABC"]),
    "rep outsw": (b"\x66\xf3\x6f", [("out", 0x3F8, 2, at) for at in (0x4241, 0x4443, 0x4645)]),
    "rep outsd": (b"\xf3\x6f", [("out", 0x3F8, 4, at) for at in (0x44434241, 0x48474645, 0x4C4B4A49)]),
    "rep insb": (b"\xf3\x6c", [("in", 0x3F8, 1)] * 3),
    "rep insd": (b"\xf3\x6d", [("in", 0x3F8, 4)] * 3),
}


@pytest.mark.parametrize("name", FORMS)
def test_an_access_asks_the_platform_once(name: str, machine: Make) -> None:
    code, asked = FORMS[name]
    box = Box()
    one = machine(Guest(SETUP + code + b"\xf4", platform=box, memory={0x90000: b"ABCDEFGHIJKL"}))
    assert finish(one).kind is StopKind.HALTED
    assert box.asked == asked


READS = {  # EAX was 0x12345678, the platform answers 0x11223344
    "al": (b"\xe4\x80", 0x12345644),
    "ax": (b"\x66\xed", 0x12343344),
    "eax": (b"\xed", 0x11223344),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_changes_its_part_of_the_register(name: str, machine: Make) -> None:
    code, eax = READS[name]
    assert finish(machine(SETUP + code + b"\xf4")).registers["rax"] == eax


@pytest.mark.parametrize(("code", "size"), [(b"\xf3\x6c", 1), (b"\x66\xf3\x6d", 2), (b"\xf3\x6d", 4)])
def test_rep_ins_stores_and_advances(code: bytes, size: int, machine: Make) -> None:
    one = machine(SETUP + code + b"\xf4")
    stop = finish(one)
    assert (stop.registers["rdi"], stop.registers["rcx"]) == (0x90100 + 3 * size, 0)
    assert one.read(0x90100, 3 * size + 1) == b"\x44\x33\x22\x11"[:size] * 3 + b"\0"


def test_df_reverses_rep_outs(machine: Make) -> None:
    box = Box()
    one = machine(Guest(SETUP + b"\xfd\xf3\x6e\xf4", platform=box, memory={0x8FFFE: b"CBA"}))
    finish(one)
    assert [value for *_, value in box.asked] == list(b"ABC")


def test_a_port_where_nothing_is_reads_all_ones_and_ignores_writes(machine: Make) -> None:
    one = machine(Guest(SETUP + b"\xee\xed\xf4", platform=Platform()))
    assert finish(one).registers["rax"] == 0xFFFFFFFF


def test_a_string_write_ends_where_the_platform_ends_it(machine: Make) -> None:
    code = SETUP.replace(b"\xf8\x03", b"\x04\x06") + b"\xf3\x6e\xf4"  # power-off is at port 0x604
    one = machine(code)
    assert finish(one).kind is StopKind.SHUTDOWN
    assert (one.get("ecx"), one.instructions) == (2, 7)


SLEEPS = {  # code: out to PM1 control of QEMU's PC (port 0x604), and whether it ends the run
    "power off": (b"\x66\xb8\x00\x20\x66\xef", True),  # mov ax, SLP_EN; out dx, ax
    "suspend to RAM": (b"\x66\xb8\x00\x24\x66\xef", True),
    "suspend to disk": (b"\x66\xb8\x00\x28\x66\xef", True),
    "the SLP_TYP of S5 elsewhere": (b"\x66\xb8\x00\x34\x66\xef", False),
    "SLP_TYP 7": (b"\x66\xb8\x00\x3c\x66\xef", False),
    "no SLP_EN": (b"\x66\xb8\x00\x08\x66\xef", False),
    "four bytes": (b"\xb8\x00\x20\x00\x00\xef", False),
}


@pytest.mark.parametrize("name", SLEEPS)
def test_pm1_control_ends_the_run_where_qemu_s_does(name: str, machine: Make) -> None:
    code, ends = SLEEPS[name]
    one = machine(Guest(b"\x66\xba\x04\x06" + code + b"\xf4", platform=Pc(pm1_control=0x604)))
    assert finish(one).kind is (StopKind.SHUTDOWN if ends else StopKind.HALTED)


def test_ring_3_has_no_ports_without_iopl(machine: Make) -> None:
    for flags, vector in ((0x2, 13), (0x3002, 6)):
        state = long(True, registers={"rflags": flags})
        memory = tables(True) | identity(True) | {TSS + 0x66: b"\xff\xff"}  # no I/O permission map
        one = machine(Guest(b"\xe6\x80\x0f\x0b", "long64-user", state, memory))  # out 0x80, al; ud2
        assert finish(one).ip == HANDLERS + vector + 1


def test_the_permission_map_gives_ring_3_single_ports(machine: Make) -> None:
    guest = Guest(b"\xe6\x80\xe6\x81", "long64-user", long(True), tables(True) | identity(True))
    guest.state["tr"] = Descriptor(0x48, TSS, 0x88, 0x8B)
    guest.memory |= {TSS + 0x66: b"\x68\0", TSS + 0x78: b"\x02"}  # port 0x81 is refused
    guest.platform = box = Box()
    assert finish(machine(guest)).ip == HANDLERS + 13 + 1
    assert box.asked == [("out", 0x80, 1, 0)]


TASKS = {  # limit and attributes of TR, with a map at 0x68: is port 0x80, bit 0 of byte 0x78, permitted
    "with the byte after": (0x79, 0x8B, True),
    "without the byte after": (0x78, 0x8B, False),
    "available": (0x79, 0x89, True),
    "not present": (0x79, 0x0B, False),
    "of 16 bits": (0x79, 0x83, False),
    "an LDT": (0x79, 0x82, False),
    "of a reserved type": (0x79, 0x88, False),
    "of another reserved type": (0x79, 0x8D, False),
}


@pytest.mark.parametrize("name", TASKS)
def test_only_a_whole_task_state_permits(name: str, machine: Make) -> None:
    limit, attributes, allowed = TASKS[name]
    state = long(True, tr=Descriptor(0x48, TSS, limit, attributes))
    guest = Guest(b"\xe6\x80\x0f\x0b", "long64-user", state, tables(True) | identity(True))
    gates = {vector: gate64(handler(vector), selector=0x38) for vector in (6, 13)}  # in code that conforms: …
    guest.memory |= tables(True, gates) | {GDT + 0x38: struct.pack("<Q", 0x00AF9F000000FFFF)}  # … no TSS used
    guest.memory[TSS + 0x66] = b"\x68\0"
    guest.platform = box = Box()
    stop = finish(machine(guest), checkpoints={handler(vector): str(vector) for vector in (6, 13)})
    assert (stop.checkpoint, len(box.asked)) == ("6" if allowed else "13", allowed)


@pytest.mark.parametrize(("limit", "allowed"), [(0x67, True), (0x66, False)])
def test_a_map_may_lie_in_a_task_state_that_has_its_offset(limit: int, allowed: bool, machine: Make) -> None:
    state = long(True, tr=Descriptor(0x48, TSS, limit, 0x8B))
    guest = Guest(b"\xe6\x80\x0f\x0b", "long64-user", state, tables(True) | identity(True))
    guest.memory[TSS + 0x66] = b"\0\0"  # bit 0 of byte 0x10 is zero
    assert finish(machine(guest)).ip == HANDLERS + (6 if allowed else 13) + 1


RING_3 = {  # accesses to port 0x80, 0x81 refused
    "out of a byte": (b"\xee", True),
    "out of a word": (b"\x66\xef", False),
    "out of four bytes": (b"\xef", False),
    "out imm8 of a byte": (b"\xe6\x80", True),
    "out imm8, with a REX": (b"\x48\xe7\x80", False),
    "in of a byte": (b"\xec", True),
    "in of a word": (b"\x66\xed", False),
    "rep outsb": (b"\xf3\x6e", True),
    "rep outsd": (b"\xf3\x6f", False),
}


@pytest.mark.parametrize("name", RING_3)
def test_every_byte_of_an_access_must_be_permitted(name: str, machine: Make) -> None:
    code, allowed = RING_3[name]
    registers = {"rdx": 0x80, "rsi": 0x90000, "rcx": 1}
    state = long(True, registers=registers, tr=Descriptor(0x48, TSS, 0x88, 0x8B))
    guest = Guest(code + b"\x0f\x0b", "long64-user", state, tables(True) | identity(True))
    guest.memory |= {TSS + 0x66: b"\x68\0", TSS + 0x78: b"\x02"}
    guest.platform = box = Box()
    assert finish(machine(guest)).ip == HANDLERS + (6 if allowed else 13) + 1
    assert len(box.asked) == allowed


def test_a_port_access_in_a_handler_goes_on_there(machine: Make) -> None:
    box = Box()
    guest = protected_guest(b"\xcd\x42\xf4")
    guest.memory[HANDLERS + 0x42] = b"\xe6\x80\xcf"  # out 0x80, al; iret
    guest.platform = box
    assert finish(machine(guest)).kind is StopKind.HALTED
    assert box.asked == [("out", 0x80, 1, 0)]


SITES = {  # the port accesses of a block of 64-bit code
    "in": (b"\xec\xc3", (0,)),
    "out with prefixes": (b"\x90\x66\x48\xef\xc3", (1,)),
    "rep outsb": (b"\xf3\x6e\xc3", (0,)),
    "a ModRM byte that looks like one": (b"\x89\xe5\x89\xec\xc3", ()),
    "an immediate that looks like one": (b"\xb8\xe4\xe5\xe6\xe7\xee", (5,)),
    "a second byte that looks like one": (b"\x0f\xe4\xc1\xc3", ()),
    "a block that ends within an instruction": (b"\x90\xee\xb8\0", (0, 1, 2, 3)),
}


@pytest.mark.parametrize("name", SITES)
def test_in_ring_3_nothing_but_port_accesses_is_watched(name: str) -> None:
    """A hook costs every instruction: with all that looks like one, a kernel in ring 3 does not get on."""
    code, found = SITES[name]
    assert ports.sites(code, 64) == found
