"""RDMSR and WRMSR: the core's own registers, the platform's, and #GP(0) for those that nobody has."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.machine.run import Machine
from bootbuild.model.trace import StopKind
from machine_guests import (
    CODE,
    HANDLERS,
    Box,
    Guest,
    finish,
    identity,
    long,
    long_guest,
    protected_guest,
    tables,
)

Make = Callable[[Guest | bytes], Machine]


def rdmsr(index: int) -> bytes:
    return b"\xb9" + struct.pack("<I", index) + b"\x0f\x32\xf4"  # mov ecx, index; rdmsr; hlt


def wrmsr(index: int, value: int) -> bytes:
    """Write, then read back."""
    low, high = value & 0xFFFFFFFF, value >> 32
    return (
        b"\xb9" + struct.pack("<I", index)  # mov ecx, index
        + b"\xb8" + struct.pack("<I", low)  # mov eax, low
        + b"\xba" + struct.pack("<I", high)  # mov edx, high
        + b"\x0f\x30\x31\xc0\x31\xd2\x0f\x32\xf4"  # wrmsr; xor eax, eax; xor edx, edx; rdmsr; hlt
    )  # fmt: skip


def value(machine: Machine) -> int:
    return machine.get("edx") << 32 | machine.get("eax")


AT_RESET = {  # what firmware and reset leave
    "APIC_BASE": (0x1B, 0xFEE00900),
    "MTRRCAP": (0xFE, 0x508),
    "MTRR_DEF_TYPE": (0x2FF, 0xC06),
    "MTRR_FIX64K": (0x250, 0x0606_0606_0606_0606),
    "MISC_ENABLE": (0x1A0, 1),
    "PAT": (0x277, 0x0007_0406_0007_0406),
    "EFER": (0xC0000080, 0xD01),
    "the platform's": (0x4000_0000, 0x1234_0000_5678),
}


@pytest.mark.parametrize("name", AT_RESET)
def test_a_register_that_is_there_reads_as_after_reset(name: str, machine: Make) -> None:
    index, expected = AT_RESET[name]
    one = machine(long_guest(rdmsr(index), registers={"rax": 2**64 - 1, "rdx": 2**64 - 1}))
    stop = finish(one)
    assert (stop.kind, stop.ip, one.events) == (StopKind.HALTED, CODE + 8, ())
    assert stop.registers["rdx"] << 32 | stop.registers["rax"] == expected  # all of RAX and RDX is written


KEPT = {
    "SYSENTER_ESP": (0x175, 0xFFFF_8000_1234_5678),
    "STAR": (0xC0000081, 0x0023_0010_0000_0000),
    "LSTAR": (0xC0000082, 0xFFFF_FFFF_8000_0000),
    "FMASK": (0xC0000084, 0x47700),
    "FS_BASE": (0xC0000100, 0x0000_7FFF_FFFF_F000),
    "KERNEL_GS_BASE": (0xC0000102, 0xFFFF_8880_0000_0000),
    "MTRR_PHYSBASE0": (0x200, 0xC000_0000),
    "TSC_AUX": (0xC0000103, 7),
    "EFER": (0xC0000080, 0x501),
    "PAT": (0x277, 0x0706_0504_0100_0707),
    "APIC_BASE": (0x1B, 0xFF_FEE0_0000),
    "MTRR_DEF_TYPE": (0x2FF, 0xC00),
    "MTRR_PHYSBASE7": (0x20E, 0xFF_FFFF_F005),
    "MTRR_PHYSMASK7": (0x20F, 0xFF_FFFF_F800),
    "MTRR_FIX4K_F8000": (0x26F, 0x0001_0405_0606_0606),
    "MCG_STATUS": (0x17A, 7),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_register_keeps_what_is_written(name: str, machine: Make) -> None:
    index, expected = KEPT[name]
    one = machine(long_guest(wrmsr(index, expected)))
    assert finish(one).kind is StopKind.HALTED
    assert (value(one), one.events) == (expected, ())


LEFT_ALONE = {
    # written, and read back: what only the processor itself sets
    "LMA, in long mode": (long_guest, 0xC0000080, 0x101, 0x501),
    "LMA, with paging off": (protected_guest, 0xC0000080, 0x500, 0x100),
    "BIOS_SIGN_ID": (protected_guest, 0x8B, 0x1234, 0),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_only_the_processor_sets_is_not_written(name: str, machine: Make) -> None:
    make, index, written, expected = LEFT_ALONE[name]
    one = machine(make(wrmsr(index, written)))
    assert finish(one).kind is StopKind.HALTED
    assert (value(one), one.events) == (expected, ())


REFUSED = {
    "PAT with type 2": (0x277, 0x0200_0000, "there is no memory type 0x2"),
    "PAT with type 3 in its last byte": (0x277, 3 << 56, "there is no memory type 0x3"),
    "PAT with a reserved bit": (0x277, 0x0E, "there is no memory type 0xe"),
    "an MTRR with the PAT's type UC-": (0x268, 7 << 56, "there is no memory type 0x7"),
    "MTRR_DEF_TYPE with type 2": (0x2FF, 0xC02, "there is no memory type 0x2"),
    "MTRR_DEF_TYPE with bit 8": (0x2FF, 0x106, "bits 0x100 are reserved"),
    "MTRR_DEF_TYPE with bit 12": (0x2FF, 0x1000, "bits 0x1000 are reserved"),
    "MTRR_PHYSBASE with type 3": (0x200, 3, "there is no memory type 0x3"),
    "MTRR_PHYSBASE with bit 11": (0x20E, 0x806, "bits 0x800 are reserved"),
    "MTRR_PHYSBASE beyond the address width": (0x200, 1 << 40, "bits 0x10000000000 are reserved"),
    "MTRR_PHYSMASK with bit 10": (0x201, 0xC00, "bits 0x400 are reserved"),
    "MTRR_PHYSMASK beyond the address width": (
        0x201, 0xFFF_FFFF_F800, "bits 0xf0000000000 are reserved",
    ),
    "APIC_BASE with bit 0": (0x1B, 0xFEE0_0901, "bits 0x1 are reserved"),
    "APIC_BASE with x2APIC, which CPUID lacks": (0x1B, 0xFEE0_0D00, "bits 0x400 are reserved"),
    "APIC_BASE beyond the address width": (0x1B, 1 << 40 | 0x900, "bits 0x10000000000 are reserved"),
    "TSC_AUX of 33 bits": (0xC0000103, 1 << 32, "bits 0x100000000 are reserved"),
    "MCG_STATUS with bit 3": (0x17A, 8, "bits 0x8 are reserved"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_hardware_refuses_is_a_fault_and_a_finding(name: str, machine: Make) -> None:
    index, written, why = REFUSED[name]
    one = machine(long_guest(wrmsr(index, written)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [(e.ip, e.detail, e.rule) for e in one.events] == [
        (CODE + 15, f"WRMSR of {written:#x} to {index:#x}: {why}: #GP(0)", "BB-B019")
    ]


@pytest.mark.parametrize(
    "index", [0x175, 0x176, 0xC0000082, 0xC0000083, 0xC0000100, 0xC0000101, 0xC0000102], ids=hex
)
@pytest.mark.parametrize("written", [1 << 47, 0xFFFF_7FFF_FFFF_FFFF], ids=hex)
def test_an_address_register_takes_canonical_addresses_only(index: int, written: int, machine: Make) -> None:
    one = machine(long_guest(wrmsr(index, written)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert [event.rule for event in one.events] == ["BB-B014"]


def test_a_base_written_is_the_base_used(machine: Make) -> None:
    code = wrmsr(0xC0000101, 0x93000)[:-1] + b"\x65\x8a\x1c\x25\x08\x00\x00\x00\xf4"  # … mov bl, gs:[8]; hlt
    one = machine(long_guest(code, memory={0x93008: b"\x77"}))
    finish(one)
    assert one.get("rbx") == 0x77


def test_the_platform_gets_what_is_written_to_its_registers(machine: Make) -> None:
    box = Box()
    guest = long_guest(wrmsr(0x4000_0000, 0x1_0000_2000))
    guest.platform = box
    one = machine(guest)
    assert finish(one).kind is StopKind.HALTED
    assert box.asked == [("wrmsr", 0x4000_0000, 0x1_0000_2000)]


ABSENT = {
    "RDMSR of one that nobody has": (rdmsr(0x1234_5678), 5, "RDMSR of 0x12345678, which does not exist"),
    "WRMSR to one that nobody has": (
        wrmsr(0x4000_0001, 3), 15, "WRMSR of 0x3 to 0x40000001, which does not exist",
    ),
    "WRMSR to MTRRCAP": (wrmsr(0xFE, 0), 15, "WRMSR to 0xfe, which is read-only"),
    "WRMSR to PLATFORM_ID": (wrmsr(0x17, 0), 15, "WRMSR to 0x17, which is read-only"),
    "WRMSR to MCG_CAP": (wrmsr(0x179, 0), 15, "WRMSR to 0x179, which is read-only"),
}  # fmt: skip


@pytest.mark.parametrize("wide", [False, True], ids=["32", "64"])
@pytest.mark.parametrize("name", ABSENT)
def test_a_guest_that_is_ready_for_the_fault_may_probe(name: str, wide: bool, machine: Make) -> None:
    code, at, detail = ABSENT[name]
    one = machine((long_guest if wide else protected_guest)(code))
    assert finish(one).ip == HANDLERS + 13 + 1
    letter = "<QQ" if wide else "<II"
    assert struct.unpack(letter, one.read(one.get("rsp"), struct.calcsize(letter))) == (0, CODE + at)
    assert [(e.kind, e.ip, e.detail, e.rule) for e in one.events] == [
        ("msr", CODE + at, f"{detail}: #GP(0)", "")
    ]


@pytest.mark.parametrize("name", ABSENT)
def test_a_guest_that_is_not_ready_breaks_a_rule(name: str, machine: Make) -> None:
    code, at, detail = ABSENT[name]
    stop = finish(machine(code))
    assert (stop.kind, stop.rule, stop.ip) == (StopKind.VIOLATION, "BB-B016", CODE + at)
    assert stop.detail.startswith(
        f"{detail}; #GP with error code 0x0 at {CODE + at:#x} could not be delivered"
    )


def test_a_read_that_was_refused_changes_no_register(machine: Make) -> None:
    one = machine(protected_guest(rdmsr(0x1234), registers={"rax": 5, "rdx": 6}))
    finish(one)
    assert (one.get("eax"), one.get("edx")) == (5, 6)


def test_below_ring_0_it_is_a_plain_fault(machine: Make) -> None:
    one = machine(Guest(rdmsr(0x1234), "long64-user", long(True), tables(True) | identity(True)))
    assert finish(one).ip == HANDLERS + 13 + 1
    assert one.events == ()


@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_prefixes_hide_no_instruction(count: int, machine: Make) -> None:
    """Each prefix here changes nothing."""
    one = machine(long_guest(b"\xb9\x34\x12\x00\x00" + b"\x2e" * count + b"\x0f\x30\xf4"))
    finish(one)
    assert [event.kind for event in one.events] == ["msr"]


def test_waiting_for_the_time_stamp_counter_is_no_endless_loop(machine: Make) -> None:
    code = bytes.fromhex("0f3148c1e2204809d048c1e81c83f801")  # rdtsc; rax = time >> 28; cmp eax, 1
    code += bytes([0x72, 256 - (len(code) + 2)]) + b"\xf4"  # jb; hlt
    assert finish(machine(long_guest(code)), budget=9_000_000).kind is StopKind.HALTED
