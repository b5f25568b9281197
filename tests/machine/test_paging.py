"""Every paging mode translates, protects and marks as the SDM says; what the host writes the guest sees.

Source: Intel SDM volume 3A, chapter 4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.machine import Region, RegionKind
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    HANDLERS,
    IDT,
    TABLES,
    Box,
    Guest,
    finish,
    gate64,
    handler,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]

PML4, PDPT, PD, PT = TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000
PAGE, OTHER = 0x200000, 0x201000  #: physical, for data
P, W, U, A, D, LARGE, NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63
VIRTUAL = 0x4000_0000  #: outside the identity maps
HIGH = 1 << 32  #: physical, memory that 32 bits do not reach

LOAD = b"\x8b\x06"  # mov eax, [rsi]
STORE = b"\x89\x06"  # mov [rsi], eax


def q(entry: int) -> bytes:
    return struct.pack("<Q", entry)


MODES: dict[str, tuple[Callable[..., Guest], dict[str, Any], int, dict[int, bytes], int]] = {
    # guest, state, linear address, tables for it, physical address
    "4-level, 4 KiB": (
        long_guest, {}, VIRTUAL + 0x5678,
        {PDPT + 8: q(PT | 3), PT: q(PT + 0x1000 | 3), PT + 0x1000 + 8 * 5: q(PAGE | 3)}, PAGE + 0x678,
    ),
    "4-level, 2 MiB": (
        long_guest, {}, VIRTUAL + 0x205678, {PDPT + 8: q(PT | 3), PT + 8: q(PAGE | LARGE | 3)}, PAGE + 0x5678,
    ),
    "4-level, 1 GiB": (long_guest, {}, VIRTUAL + 0x205678, {PDPT + 8: q(LARGE | 3)}, 0x205678),
    "4-level, high half": (
        long_guest, {}, 0xFFFF_FFFF_8020_5678,
        {PML4 + 8 * 511: q(PDPT | 3), PDPT + 8 * 510: q(PD | 3)}, 0x205678,
    ),
    "PAE, 4 KiB": (
        protected_guest, {"cr0": 0x8000_0011, "cr3": PDPT, "cr4": 0x20}, VIRTUAL + 0x5678,
        {
            PDPT: q(PD | P), PD: q(LARGE | 3),
            PDPT + 8: q(PT | P), PT: q(PT + 0x1000 | 3), PT + 0x1000 + 8 * 5: q(PAGE | 3),
        },
        PAGE + 0x678,
    ),
    "PAE, 2 MiB": (
        protected_guest, {"cr0": 0x8000_0011, "cr3": PDPT, "cr4": 0x20}, VIRTUAL + 0x205678,
        {PDPT: q(PD | P), PD: q(LARGE | 3), PDPT + 8: q(PT | P), PT + 8: q(PAGE | LARGE | 3)}, PAGE + 0x5678,
    ),
    "32-bit, 4 KiB": (
        protected_guest, {"cr0": 0x8000_0011, "cr3": PD, "cr4": 0x10}, VIRTUAL + 0x5678,
        {
            PD: struct.pack("<I", LARGE | 3), PD + 4 * 0x100: struct.pack("<I", PT | 3),
            PT + 4 * 5: struct.pack("<I", PAGE | 3),
        },
        PAGE + 0x678,
    ),
    "32-bit, 4 MiB": (
        protected_guest, {"cr0": 0x8000_0011, "cr3": PD, "cr4": 0x10}, VIRTUAL + 0x205678,
        {PD: struct.pack("<I", LARGE | 3), PD + 4 * 0x100: struct.pack("<I", LARGE | 3)}, 0x205678,
    ),
    "32-bit, 4 MiB, above 4 GiB": (
        protected_guest, {"cr0": 0x8000_0011, "cr3": PD, "cr4": 0x10}, VIRTUAL + 0x205678,
        {PD: struct.pack("<I", LARGE | 3), PD + 4 * 0x100: struct.pack("<I", 1 << 13 | LARGE | 3)},
        HIGH + 0x205678,
    ),
    "none": (protected_guest, {}, PAGE + 0x678, {}, PAGE + 0x678),
}  # fmt: skip


def with_tables(guest: Guest, entries: dict[int, bytes]) -> Guest:
    guest.memory |= entries
    guest.regions = (Region(Span(HIGH, 0x400000), RegionKind.RAM),)
    return guest


@pytest.mark.parametrize("name", MODES)
def test_a_linear_address_leads_where_the_tables_say(name: str, machine: Make) -> None:
    make, state, linear, entries, physical = MODES[name]
    guest = make(
        LOAD + b"\x83\xc6\x04" + STORE + b"\xf4", registers={"rsi": linear}, **state
    )  # …; add esi, 4; …
    if name == "4-level, high half":
        guest.code = LOAD + b"\x48\x83\xc6\x04" + STORE + b"\xf4"
    one = machine(with_tables(guest, entries | {physical: b"\x78\x56\x34\x12"}))
    stop = finish(one)
    assert (stop.kind, stop.registers["rax"]) == (StopKind.HALTED, 0x12345678)
    assert one.read_physical(physical + 4, 4) == b"\x78\x56\x34\x12"
    # The host's walk agrees with the core's.
    assert (one.translate(linear), one.read(linear, 4)) == (physical, b"\x78\x56\x34\x12")


@pytest.mark.parametrize("name", [name for name in MODES if name != "none"])
def test_the_last_entry_is_marked_accessed_and_dirty(name: str, machine: Make) -> None:
    make, state, linear, entries, _ = MODES[name]
    last = list(entries)[-1]
    if name == "4-level, high half":
        last = PD + 8
    marks = []
    for access in (b"", LOAD, STORE):
        one = machine(with_tables(make(access + b"\xf4", registers={"rsi": linear}, **state), entries))
        finish(one)
        marks.append(one.read_physical(last, 1)[0] & (A | D))
    assert marks == [0, A, A | D]


# -- protection: rights of the page, CR0.WP, level; the error code, or None where it is allowed ------------

RIGHTS = {
    "a read of a read-only page": (LOAD, P, True, 0, None),
    "a write to a read-only page with WP": (STORE, P, True, 0, 3),
    "a write to a read-only page without WP": (STORE, P, False, 0, None),
    "a write to a writable page": (STORE, P | W, True, 0, None),
    "a read of a page that is not present": (LOAD, 0, True, 0, 0),
    "a write to a page that is not present": (STORE, 0, True, 0, 2),
    "ring 3 reads a system page": (LOAD, P | W, True, 3, 5),
    "ring 3 writes to a system page": (STORE, P | W, True, 3, 7),
    "ring 3 reads a user page": (LOAD, P | U, True, 3, None),
    "ring 3 writes to a read-only user page without WP": (STORE, P | U, False, 3, 7),
    "ring 3 reads what is not there": (LOAD, 0, True, 3, 4),
    "a jump to a page that may not execute": (b"\xff\xe6", P | W | NX, True, 0, 0x11),
    "a read of a page that may not execute": (LOAD, P | W | NX, True, 0, None),
    "ring 3 jumps to a page that may not execute": (b"\xff\xe6", P | W | U | NX, True, 3, 0x15),
    "a reserved bit": (LOAD, P | W | 1 << 45, True, 0, 9),
}


@pytest.mark.parametrize("name", RIGHTS)
def test_a_page_protects_and_the_error_code_says_why(name: str, machine: Make) -> None:
    code, rights, wp, level, error = RIGHTS[name]
    state = long(level == 3, cr0=0x8001_0031 if wp else 0x8000_0031, registers={"rsi": VIRTUAL + 0x678})
    memory = tables(True) | identity(True)
    memory |= {PDPT + 8: q(PT | 7), PT: q(PT + 0x1000 | 7), PT + 0x1000: q(PAGE | rights)}
    one = machine(Guest(code + b"\x0f\x0b", "long64-user" if level else "long64", state, memory))
    vector = finish(one).ip - 1 - HANDLERS
    if error is None:
        assert vector == 6  # the UD2 behind it
    else:
        assert (vector, one.get("cr2")) == (14, VIRTUAL + 0x678)
        assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (error,)


def test_smep_keeps_ring_0_from_user_code(machine: Make) -> None:
    guest = long_guest(b"\xff\xe6", cr4=0x100620, registers={"rsi": VIRTUAL})
    guest.memory |= {PML4: q(PDPT | 7), PDPT + 8: q(PT | 7), PT: q(PAGE | LARGE | 7), PAGE: b"\xf4"}
    one = machine(guest)
    assert finish(one).ip == HANDLERS + 14 + 1
    assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (0x11,)


def test_an_access_across_two_pages_faults_at_the_second(machine: Make) -> None:
    guest = long_guest(STORE + b"\xf4", registers={"rsi": VIRTUAL + 0xFFE, "rax": 0x11223344})
    guest.memory |= {PDPT + 8: q(PT | 3), PT: q(PT + 0x1000 | 3), PT + 0x1000: q(PAGE | 3)}
    one = machine(guest)
    assert finish(one).ip == HANDLERS + 14 + 1
    assert (one.get("cr2"), one.read_physical(PAGE + 0xFFE, 2)) == (VIRTUAL + 0x1000, b"\0\0")


# -- what changes while the guest runs ---------------------------------------------------------------


def test_an_entry_changed_by_the_guest_counts_after_invlpg(machine: Make) -> None:
    guest = long_guest(
        b"\x8b\x04\x25\x00\x00\x00\x40"  # mov eax,[0x40000000]
        b"\xbb\x03\x10\x20\x00"  # mov ebx,0x201003
        b"\x48\x89\x1c\x25\x00\x40\x01\x00"  # mov [0x14000],rbx
        b"\x0f\x01\x3c\x25\x00\x00\x00\x40"  # invlpg [0x40000000]
        b"\x8b\x0c\x25\x00\x00\x00\x40"  # mov ecx,[0x40000000]
        b"\xf4"  # hlt
    )
    guest.memory |= {PDPT + 8: q(PT | 3), PT: q(PT + 0x1000 | 3), PT + 0x1000: q(PAGE | 3)}
    guest.memory |= {PAGE: b"\x11", OTHER: b"\x22"}
    stop = finish(machine(guest))
    assert (stop.registers["rax"], stop.registers["rcx"]) == (0x11, 0x22)


def test_another_cr3_is_another_address_space(machine: Make) -> None:
    guest = long_guest(
        b"\x8b\x04\x25\x00\x00\x00\x40"  # mov eax,[0x40000000]
        b"\xbb\x00\x50\x01\x00"  # mov ebx,0x15000
        b"\x0f\x22\xdb"  # mov cr3,rbx
        b"\x8b\x0c\x25\x00\x00\x00\x40"  # mov ecx,[0x40000000]
        b"\xf4"  # hlt
    )
    other = 0x15000
    guest.memory |= {PDPT + 8: q(PT | 3), PT: q(PAGE | LARGE | 3), PAGE: b"\x11", 0x400000: b"\x22"}
    guest.memory |= {
        other: q(other + 0x1000 | 3),
        other + 0x1000: q(PD | 3),
        other + 0x1008: q(other + 0x2000 | 3),
    }
    guest.memory[other + 0x2000] = q(0x400000 | LARGE | 3)
    stop = finish(machine(guest))
    assert (stop.registers["rax"], stop.registers["rcx"]) == (0x11, 0x22)


def test_code_written_through_an_alias_is_executed(machine: Make) -> None:
    # The code at CODE + 0x100 (inc ebx; ret) is made dec ebx by a write to where its page is mapped again.
    guest = long_guest(
        b"\xe8\xfb\x00\x00\x00"  # call 0x100100
        b"\xc6\x04\x25\x01\x01\x10\x40\xcb"  # mov byte ptr [0x40100101],0xcb
        b"\xe8\xee\x00\x00\x00"  # call 0x100100
        b"\xf4"  # hlt
    )
    guest.memory |= {CODE + 0x100: b"\xff\xc3\xc3", PDPT + 8: q(LARGE | 3)}
    assert finish(machine(guest)).registers["rbx"] == 0


class Writer(Box):
    """Writes when port 0x80 is written to."""

    def __init__(self, physical: int, data: bytes) -> None:
        super().__init__()
        self._what = physical, data

    def port_out(self, cpu: Any, port: int, size: int, value: int) -> None:
        cpu.write_physical(*self._what)


def test_code_patched_by_the_platform_is_executed(machine: Make) -> None:
    guest = long_guest(
        b"\xe8\xfb\x00\x00\x00"  # call 0x100100
        b"\xe6\x80"  # out 0x80,al
        b"\xe8\xf4\x00\x00\x00"  # call 0x100100
        b"\xf4"  # hlt
    )
    guest.memory[CODE + 0x100] = b"\xff\xc3\xc3"
    guest.platform = Writer(CODE + 0x101, b"\xcb")
    assert finish(machine(guest)).registers["rbx"] == 0


def test_an_entry_changed_by_the_platform_counts_at_once(machine: Make) -> None:
    guest = long_guest(
        b"\x8b\x04\x25\x00\x00\x00\x40"  # mov eax,[0x40000000]
        b"\xe6\x80"  # out 0x80,al
        b"\x8b\x0c\x25\x00\x00\x00\x40"  # mov ecx,[0x40000000]
        b"\xf4"  # hlt
    )
    guest.memory |= {PDPT + 8: q(PT | 3), PT: q(PT + 0x1000 | 3), PT + 0x1000: q(PAGE | 3)}
    guest.memory |= {PAGE: b"\x11", OTHER: b"\x22"}
    guest.platform = Writer(PT + 0x1000, q(OTHER | 3))
    stop = finish(machine(guest))
    assert (stop.registers["rax"], stop.registers["rcx"]) == (0x11, 0x22)


def test_data_and_code_written_between_two_runs_are_seen(machine: Make) -> None:
    guest = long_guest(
        b"\x8b\x04\x25\x00\x00\x20\x00"  # mov eax,[0x200000]
        b"\xe8\xf4\x00\x00\x00"  # call 0x100100
        b"\xf4"  # hlt
        b"\x8b\x04\x25\x00\x00\x20\x00"  # mov eax,[0x200000]
        b"\xe8\xe7\x00\x00\x00"  # call 0x100100
        b"\xf4"  # hlt
    )
    guest.memory |= {CODE + 0x100: b"\xff\xc3\xc3", PAGE: b"\x11"}
    one = machine(guest)
    assert finish(one).registers["rax"] == 0x11
    one.write(PAGE, b"\x22")
    one.write(CODE + 0x101, b"\xcb")
    stop = finish(one)
    assert (stop.registers["rax"], stop.registers["rbx"]) == (0x22, 0)


# -- the host's own view -----------------------------------------------------------------------------


def test_the_host_reads_and_writes_across_pages_that_are_not_neighbours(machine: Make) -> None:
    guest = long_guest(b"\xf4")
    guest.memory |= {PDPT + 8: q(PT | 3), PT: q(PT + 0x1000 | 3), PT + 0x1000: q(OTHER | 3) + q(PAGE | 3)}
    one = machine(guest)
    one.write(VIRTUAL + 0xFFE, b"abcd")
    assert (one.read_physical(OTHER + 0xFFE, 2), one.read_physical(PAGE, 2)) == (b"ab", b"cd")
    assert one.read(VIRTUAL + 0xFFE, 4) == b"abcd"


@pytest.mark.parametrize("address", [VIRTUAL, 1 << 47, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63])
def test_what_is_not_mapped_cannot_be_read(address: int, machine: Make) -> None:
    one = machine(long_guest(b"\xf4"))
    assert one.translate(address) is None
    with pytest.raises(LookupError, match=f"no page is mapped at {address:#x}"):
        one.read(address, 1)


def test_without_paging_addresses_wrap_at_4_gib(machine: Make) -> None:
    guest = protected_guest(b"\xf4")
    guest.memory[0] = b"ab"
    one = machine(guest)
    assert one.translate(1 << 32) == 0
    assert one.read((1 << 32) | 1, 1) == b"b"


# -- the host's accesses on the guest's behalf: the frame of an exception goes where the guest may write ---

UD2 = b"\x0f\x0b"
ON_IST1 = {14: gate64(handler(14), ist=1)}  #: #PF on a stack that is always there
FRAMES: dict[str, tuple[int, dict[str, Any], int | None]] = {
    # rights of the stack's page, state, error code of the #PF or None
    "a writable page": (P | W, {}, None),
    "a read-only page with WP": (P, {"cr0": 0x8001_0031}, 3),
    "a read-only page without WP": (P, {"cr0": 0x8000_0031}, None),
    "no page": (0, {}, 2),
    "an address of 46 bits": (P | W | 1 << 45, {}, 0xB),
    "the highest address bit that there is not": (P | W | 1 << 51, {}, 0xB),
    "bits that are the guest's": (P | W | 0x7F << 52 | 7 << 9, {}, None),
    "NX": (P | W | NX, {}, None),
    "NX without EFER.NXE": (P | W | NX, {"efer": 0x501}, 0xB),
    "reserved and read-only": (P | 1 << 40, {"cr0": 0x8001_0031}, 0xB),
}


def framed(rights: int, **state: Any) -> Guest:
    """#UD in 64-bit mode, on a stack whose last page has `rights`."""
    guest = long_guest(UD2, gates=ON_IST1, registers={"rsp": VIRTUAL + 0x1000}, **state)
    return with_tables(guest, {PDPT + 8: q(PT | 3), PT: q(PT + 0x1000 | 3), PT + 0x1000: q(PAGE | rights)})


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_pushed_where_the_tables_let_the_core_write(name: str, machine: Make) -> None:
    rights, state, error = FRAMES[name]
    one = machine(framed(rights, **state))
    vector = finish(one).ip - 1 - HANDLERS
    if error is None:
        assert vector == 6
        assert one.translate(VIRTUAL) == PAGE
    else:
        assert (vector, one.get("cr2")) == (14, VIRTUAL + 0xFD8)
        assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (error,)


@pytest.mark.parametrize("name", FRAMES)
def test_the_core_writes_there_by_the_same_rules(name: str, machine: Make) -> None:
    """The engine's own walk, against which the host's is held: a store instead of a frame."""
    rights, state, error = FRAMES[name]
    guest = framed(rights, **state)
    guest.code = b"\x48\x89\x44\x24\xd8\xf4"  # mov [rsp-40], rax; hlt
    one = machine(guest)
    stop = finish(one)
    if error is None:
        assert stop.ip == CODE + 6
    else:
        assert (stop.ip - 1 - HANDLERS, one.get("cr2")) == (14, VIRTUAL + 0xFD8)
        assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (error,)


RESERVED = {
    # a linear address, and entries that would map it but for one bit
    "bit 7 of a PML4E": (1 << 39, {PML4 + 8: q(PDPT | LARGE | 3)}),
    "bit 13 of a 1 GiB page": (VIRTUAL, {PDPT + 8: q(1 << 13 | LARGE | 3)}),
    "bit 29 of a 1 GiB page": (VIRTUAL, {PDPT + 8: q(1 << 29 | LARGE | 3)}),
    "bit 13 of a 2 MiB page": (VIRTUAL, {PDPT + 8: q(PT | 3), PT: q(1 << 13 | LARGE | 3)}),
    "bit 20 of a 2 MiB page": (VIRTUAL, {PDPT + 8: q(PT | 3), PT: q(1 << 20 | LARGE | 3)}),
    "bit 40 of a PDE": (VIRTUAL, {PDPT + 8: q(PT | 3), PT: q(1 << 40 | PD | 3)}),
}


@pytest.mark.parametrize("name", RESERVED)
def test_an_entry_with_a_reserved_bit_leads_nowhere(name: str, machine: Make) -> None:
    linear, entries = RESERVED[name]
    one = machine(with_tables(long_guest(LOAD + b"\xf4", registers={"rsi": linear}), entries))
    assert finish(one).ip == handler(14) + 1  # so says the engine
    assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (9,)
    assert one.translate(linear) is None


def test_the_walk_in_a_report_names_the_reserved_bits(machine: Make) -> None:
    guest = with_tables(
        long_guest(LOAD, registers={"rsi": VIRTUAL}), {PDPT + 8: q(PT | 3), PT: q(1 << 45 | LARGE | 3)}
    )
    guest.memory[IDT] = bytes(4096)
    stop = finish(machine(guest))
    assert stop.report[-1] == (
        f"walk of {VIRTUAL:#x}: PML4[0x10000] = 0x11023, PDPT[0x11008] = 0x13023, "
        "PD[0x13000] = 0x200000000083 (reserved: 0x200000000000) → not mapped"
    )


@pytest.mark.parametrize(("entry", "leads"), [(1 << 20, True), (1 << 21, False)])
def test_a_4_mib_page_has_bits_20_to_13_for_its_address_and_none_more(
    entry: int, leads: bool, machine: Make
) -> None:
    guest = protected_guest(b"\xf4", cr0=0x8000_0011, cr3=PD, cr4=0x10)
    entries = {PD: struct.pack("<I", LARGE | 3), PD + 4 * 0x100: struct.pack("<I", entry | LARGE | 3)}
    one = machine(with_tables(guest, entries))
    assert one.translate(VIRTUAL) == (1 << 39 if leads else None)


@pytest.mark.parametrize("wp", [0, 1 << 16], ids=["WP=0", "WP=1"])
def test_a_pae_page_directory_pointer_carries_no_rights(wp: int, machine: Make) -> None:
    guest = protected_guest(UD2, cr0=0x8000_0011 | wp, cr3=PDPT, cr4=0x20)
    one = machine(with_tables(guest, {PDPT: q(PD | P), PD: q(LARGE | 3)}))
    assert finish(one).ip == handler(6) + 1


@pytest.mark.parametrize("bit", [40, 51, 52, 62, 63])
def test_the_high_bits_of_a_pae_entry_are_reserved(bit: int, machine: Make) -> None:
    """Those above 51 too, which 4-level paging ignores; NX because EFER.NXE is 0."""
    guest = protected_guest(LOAD + b"\xf4", registers={"rsi": VIRTUAL}, cr0=0x8000_0011, cr3=PDPT, cr4=0x20)
    guest.memory |= {PDPT: q(PD | P), PD: q(LARGE | 3), PDPT + 8: q(PT | P), PT: q(1 << bit | LARGE | 3)}
    one = machine(guest)
    assert finish(one).ip == handler(14) + 1  # so says the engine
    assert struct.unpack("<I", one.read(one.get("rsp"), 4)) == (9,)
    assert one.translate(VIRTUAL) is None


def test_a_ring_3_handler_s_frame_needs_a_user_page(machine: Make) -> None:
    gates = {6: gate64(handler(6), selector=0x20), 14: gate64(handler(14))}
    for rights, vector in ((P | W | U, 13), (P | W, 14), (P | U, 14)):  # in ring 3 the handler's HLT is #GP
        guest = Guest(
            UD2,
            "long64-user",
            long(True, registers={"rsp": VIRTUAL + 0x1000}),
            tables(True, gates) | identity(True),
        )
        entries = {PDPT + 8: q(PT | 7), PT: q(PT + 0x1000 | 7), PT + 0x1000: q(PAGE | rights)}
        one = machine(with_tables(guest, entries))
        assert finish(one).ip == handler(vector) + 1
        if vector == 14:
            assert struct.unpack("<Q", one.read(one.get("rsp"), 8)) == (7,)
            assert one.get("cr2") == VIRTUAL + 0xFD8
