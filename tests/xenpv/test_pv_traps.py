"""Exceptions of a PV guest, by its trap table, and the way back by iret: what Xen 4.17 takes and refuses."""

from __future__ import annotations

import struct

import pytest

from bootbuild.model.verdict import Outcome
from tiny_pv_guest import (
    DATA,
    PT_BASE,
    SET_TRAP_TABLE,
    STARTUP,
    VIRT_BASE,
    answer,
    call,
    iret,
    run,
    traps,
    u64,
)

VM_ASSIST = 21
EFAULT, EINVAL = 14, 22
HANDLER = STARTUP + 0x200
UD2 = b"\x0f\x0b"
RAX_TO = b"\x48\xa3"  # mov %rax, address
TABLES = b"\x48\x8b\x76" + bytes([PT_BASE])  # mov PT_BASE(%rsi), %rsi
UNCANONICAL = 1 << 63


LAST = VIRT_BASE + (4 << 20) - 16  #: where the bootstrap region ends
# an entry of vector 6, whose handler is the startup path
TRAP_6 = b"\x48\xb8" + u64(6 | 0xE033 << 16) + RAX_TO + u64(LAST)
TRAP_6 += b"\x48\xb8" + u64(STARTUP) + RAX_TO + u64(LAST + 8)


def test_a_trap_table_that_ends_too_early_is_set_up_to_there() -> None:
    assert answer(TRAP_6 + call(SET_TRAP_TABLE, LAST)) == -EFAULT
    assert run(TRAP_6 + call(SET_TRAP_TABLE, LAST) + UD2).outcome is Outcome.BOOTED


def test_a_handler_that_is_no_address_is_refused() -> None:
    table = traps({6: STARTUP, 7: UNCANONICAL, 13: STARTUP})
    assert answer(call(SET_TRAP_TABLE, DATA), table) == -EINVAL
    assert run(call(SET_TRAP_TABLE, DATA) + UD2, table).outcome is Outcome.BOOTED
    assert run(call(SET_TRAP_TABLE, DATA) + b"\xf4", table).outcome is Outcome.FAILED


@pytest.mark.parametrize(("assist", "back", "iopl"), [(True, False, 3), (False, False, 0), (True, True, 0)])
def test_with_architectural_iopl_a_frame_has_it(assist: bool, back: bool, iopl: int) -> None:
    """And iret takes it from there."""
    first = call(SET_TRAP_TABLE, DATA + 16) + call(33, 6, DATA)
    first += call(VM_ASSIST, 0, 4) if assist else b""
    raises = STARTUP + 0x100
    first += iret(0xE030, rip=raises) if back else UD2
    # mov 32(%rsp), %rax; shr $12, %eax; and $3, %eax
    handler = b"\x48\x8b\x44\x24\x20\xc1\xe8\x0c\x83\xe0\x03"
    handler += b"\xe9" + struct.pack("<i", STARTUP - (HANDLER + len(handler) + 5))
    startup = (b"\xeb\xfe".ljust(0x100, b"\0") + UD2).ljust(0x200, b"\0") + handler
    verdict = run(first, b"\3".ljust(16, b"\0") + traps({6: HANDLER}), startup=startup)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    assert verdict.runs[0].stop.registers["rax"] == iopl


def test_an_irets_frame_is_the_guests() -> None:
    """The frame table of the machine it can read; Xen does not, for it."""
    at_m2p = b"\x48\xbc" + u64(0xFFFF800000000000) + b"\xb8\x17\0\0\0\x0f\x05"
    (finding,) = run(at_m2p).findings
    assert (finding.rule, "where the guest has none" in finding.message) == ("BB-B044", True)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"\x48\xa1" + u64(VIRT_BASE + (1 << 30)), 0),  # mov, not mapped
        (TABLES + b"\x48\x89\x06", 3),  # to a page table
        (b"\xb8" + struct.pack("<I", 0x1000) + b"\xff\xe0", 16),  # jump
    ],
)
def test_a_kernels_page_fault_is_not_user_modes(first: bytes, code: int) -> None:
    """In ring 3 the processor says user; Xen takes that out of the guest's error code."""
    # mov 16(%rsp), %rbx: the error code behind rcx and r11; cmp; jne to itself + ud2
    handler = b"\x48\x83\x7c\x24\x10" + bytes([code]) + b"\x74\x02" + UD2
    handler += b"\xe9" + struct.pack("<i", STARTUP - (HANDLER + len(handler) + 5))
    set_it = b"\x49\x89\xf7" + call(SET_TRAP_TABLE, DATA) + b"\x4c\x89\xfe"
    verdict = run(set_it + first, traps({14: HANDLER}), startup=b"\xeb\xfe".ljust(0x200, b"\0") + handler)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]


def gate(vector: int, flags: int) -> bytes:
    return struct.pack("<BBHIQ", vector, flags, 0xE033, 0, STARTUP) + bytes(16)


@pytest.mark.parametrize(
    ("vector", "dpl", "works"), [(0x81, 0, False), (0x81, 1, True), (0x80, 0, True), (3, 0, True)]
)
def test_int_wants_a_gate_of_ring_1(vector: int, dpl: int, works: bool) -> None:
    verdict = run(call(SET_TRAP_TABLE, DATA) + b"\xcd" + bytes([vector]), gate(vector, dpl))
    assert (verdict.outcome is Outcome.BOOTED) == works, [f.message for f in verdict.findings]


FAULTY_RETURNS = {  # an iret that faults: vector and error code
    "no CS": (iret(0), 13, 0),
    "a CS that is none": (iret(0x10), 13, 0x10),
    "data for CS": (iret(0xE028), 13, 0xE028),
    "Xen's own CS": (iret(0xE008), 13, 0xE008),
    "no SS": (iret(0xE030, ss=0), 13, 0),
    "code for SS": (iret(0xE030, ss=0xE030), 13, 0xE030),
    "RIP is no address": (iret(0xE030, rip=UNCANONICAL), 13, 0),
}


@pytest.mark.parametrize("name", FAULTY_RETURNS)
def test_a_faulting_iret_is_an_exception_of_the_guests(name: str) -> None:
    code, vector, error = FAULTY_RETURNS[name]
    handler = b"\x48\x81\x7c\x24\x10" + struct.pack("<I", error) + b"\x74\x02" + UD2  # cmp error, 16(%rsp)
    handler += b"\xe9" + struct.pack("<i", STARTUP - (HANDLER + len(handler) + 5))
    startup = b"\xeb\xfe".ljust(0x200, b"\0") + handler
    verdict = run(call(SET_TRAP_TABLE, DATA) + code, traps({vector: HANDLER}), startup=startup)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]


@pytest.mark.parametrize(
    "code",
    [
        iret(0),
        iret(0x10),
        iret(0xE028),  # data
        iret(0xE008),  # Xen's own
        iret(0xE030, ss=0),
        iret(0xE030, ss=0xE030),
        iret(0xE030, rip=UNCANONICAL),
        iret(0, flags=0x100, rip=UNCANONICAL),
    ],
)
def test_a_faulting_iret_without_a_handler_ends_the_domain(code: bytes) -> None:
    (finding,) = run(code).findings
    assert finding.rule == "BB-B044"


def test_an_iret_in_a_system_call_has_the_selectors_of_sysret() -> None:
    assert run(iret(0xE030, flags=0x100)).outcome is Outcome.BOOTED
    assert run(iret(0, ss=0, flags=0x100)).outcome is Outcome.BOOTED
