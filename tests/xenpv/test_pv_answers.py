"""Each hypercall of a small guest is modelled; what those answer that no other test is about."""

from __future__ import annotations

import struct

import pytest

from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_xenpv.environments.frames import PAGE
from tiny_pv_guest import (
    DATA,
    DATAS_FRAME,
    HYPERCALLS,
    MMUEXT_OP,
    SET_TRAP_TABLE,
    STARTUP,
    UPDATE_VA_MAPPING,
    answer,
    call,
    iret,
    run,
    traps,
    u64,
)

MULTICALL, MMU_UPDATE, XEN_VERSION, VM_ASSIST, VCPU_OP, SET_SEGMENT_BASE = 13, 1, 17, 21, 24, 25
EINVAL, ENOSYS = 22, 38
SELF = 0x7FF0
HANDLER = STARTUP + 0x200
UD2 = b"\x0f\x0b"
FRAME_TO = b"\x48\xa3"  # mov %rax, address


NAMED = {  # each with arguments that do no harm
    "set_trap_table": call(SET_TRAP_TABLE, 0),
    "mmu_update": call(MMU_UPDATE, DATA, 0, 0, SELF),
    "set_gdt": call(2, DATA, 0),
    "stack_switch": call(3, 0xE02B, DATA),
    "set_callbacks": call(4, 0, 0, 0),
    "fpu_taskswitch": call(5, 0),
    "set_debugreg": call(8, 0, 0),
    "get_debugreg": call(9, 7),
    "update_descriptor": call(10, 4, 0),
    "memory_op": call(12, 12, DATA),
    "multicall": call(MULTICALL, DATA, 0),
    "update_va_mapping": call(UPDATE_VA_MAPPING, 0, 0, 0),
    "set_timer_op": call(15, 0),
    "xen_version": call(XEN_VERSION, 0),
    "console_io": call(18, 0, 0, DATA),
    "grant_table_op": call(20, 6, DATA, 1),
    "vm_assist": call(VM_ASSIST, 1, 0),
    "iret": iret(0xE030),
    "vcpu_op": call(VCPU_OP, 3, 0, 0),
    "set_segment_base": call(SET_SEGMENT_BASE, 0, 0),
    "mmuext_op": call(MMUEXT_OP, DATA, 0, 0, SELF),
    "nmi_op": call(28, 1, 0),
    "sched_op": call(29, 0, 0),
    "callback_op": call(30, 1, DATA),
    "event_channel_op": call(32, 5, DATA),
    "physdev_op": call(33, 6, DATA),
}


def not_modelled(verdict: ProfileVerdict) -> list[str]:
    return [event.detail for event in verdict.runs[0].events if event.kind == "hypercall"]


@pytest.mark.parametrize("name", NAMED)
def test_every_hypercall_of_a_small_guest_is_modelled(name: str) -> None:
    verdict = run(NAMED[name])
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    assert not_modelled(verdict) == []


UNKNOWN = {
    "a number": (call(63, 1, 2), "hypercall 63(0x1, 0x2, 0x0)"),
    "an operation on grants": (call(20, 77, DATA, 1), "grant_table_op(0x4d"),
    "an operation on the vCPU": (call(VCPU_OP, 77, 0, 0), "vcpu_op(0x4d"),
    "an operation on tables": (call(MMUEXT_OP, DATA, 1, 0, SELF), "hypercall 26(0x63"),
    "an operation on event channels": (call(32, 77, DATA), "event_channel_op(0x4d"),
    "an LDT": (call(MMUEXT_OP, DATA + 24, 1, 0, SELF), "hypercall 26(0xd"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_modelled_answers_enosys_and_is_recorded(name: str) -> None:
    code, told = UNKNOWN[name]
    data = struct.pack("<IIQQIIQQ", 99, 0, 0, 0, 13, 0, HYPERCALLS, 1)
    assert answer(b"\x31\xd2" + code, data) == -ENOSYS  # xor %edx, %edx
    (event,) = not_modelled(run(b"\x31\xd2" + code, data))
    assert event.startswith(told)
    assert event.endswith("is not modelled: -ENOSYS")


@pytest.mark.parametrize(
    ("pointer", "value", "result", "after"),
    [
        (0, 0x1234, 0, 0x1234),  # MMU_NORMAL_PT_UPDATE of a page that is no table
        (2, 0x1234, 0, 0x1234),  # MMU_PT_UPDATE_PRESERVE_AD
        (3, 0x1234, 0, 0x1234),  # MMU_PT_UPDATE_NO_TRANSLATE
        (4, 0x1234, -ENOSYS, 0),
    ],
)
def test_kinds_of_updates(pointer: int, value: int, result: int, after: int) -> None:
    """Of the last quadword of DATA's own page."""
    # shl $12, %rax; or $(0xff8 | kind), %rax
    to = DATAS_FRAME + b"\x48\xc1\xe0\x0c\x48\x0d" + struct.pack("<I", 0xFF8 | pointer) + FRAME_TO + u64(DATA)
    update = to + call(MMU_UPDATE, DATA, 1, DATA + 16, SELF)
    data = u64(0) + u64(value) + struct.pack("<I", 7)
    assert answer(update, data) == result
    page_end = (DATA & -PAGE) + 0xFF8
    assert answer(update + b"\x48\xa1" + u64(page_end), data) == after
    assert answer(update + b"\x31\xc0\xa1" + u64(DATA + 16), data) == (result == 0)  # mov done, %eax


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (0x00AF9B000000FFFF, 0),
        (0x0000800000000000, 0),  # type 0: the second half of a call gate
        (0x0000890000000000, -EINVAL),  # a TSS
        (0x0000EC0000080000, 0),  # a call gate to a segment of the guest's
        (0x0000EC00E0080000, -EINVAL),  # to Xen's
    ],
)
def test_which_descriptors_a_guest_may_have(value: int, result: int) -> None:
    to = (
        DATAS_FRAME + b"\x48\xc1\xe0\x0c\x48\x0d\xf0\x0f\0\0\x48\x89\xc7\x48\xbe" + u64(value)
    )  # …; or $0xff0
    assert answer(to + b"\xb8\x0a\0\0\0\x0f\x05") == result


NM = call(5, 1) + b"\xd9\xd0"  # fpu_taskswitch; fnop


def test_after_fpu_taskswitch_the_next_fpu_instruction_raises_nm_once() -> None:
    handler = b"\xd9\xd0\xe9" + struct.pack("<i", STARTUP - (HANDLER + 7))  # fnop; jmp
    startup = b"\xeb\xfe".ljust(0x200, b"\0") + handler
    verdict = run(call(SET_TRAP_TABLE, DATA) + NM + UD2, traps({7: HANDLER}), startup=startup)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    assert [f.rule for f in run(NM).findings] == ["BB-B040"]
    assert run(call(5, 1) + call(5, 0) + b"\xd9\xd0").outcome is Outcome.BOOTED


def test_the_run_state_is_told() -> None:
    state = call(VCPU_OP, 4, 0, DATA) + b"\x48\xa1"  # mov …, %rax
    assert answer(state + u64(DATA), b"\xff" * 48) == 0  # RUNSTATE_running
    assert answer(state + u64(DATA + 16), b"\xff" * 48) > 0


GRANTS = {  # grant_table_op, its structure, and what is at which offset then
    "query_size": (6, struct.pack("<HHIIh2x", SELF, 0, 7, 7, 7), {4: 1, 8: 64, 12: 0}),
    "query_size of another domain": (6, struct.pack("<HHIIh2x", 77, 0, 7, 7, 7), {4: 7, 8: 7, 12: 0xFFFE}),
    "get_version": (10, struct.pack("<HHI", SELF, 0, 7), {4: 1}),
    "set_version": (8, struct.pack("<I", 2), {0: 2}),
    "setup_table of too many": (2, struct.pack("<HHIh6xQ", SELF, 0, 65, 7, DATA + 64), {8: 0xFFFF}),
}


@pytest.mark.parametrize("name", GRANTS)
def test_the_grant_table(name: str) -> None:
    command, data, expected = GRANTS[name]
    for offset, value in expected.items():
        look = b"\x31\xc0\xa1" + u64(DATA + offset)  # mov …, %eax
        found = answer(call(20, command, DATA, 1) + look, data.ljust(80, b"\0")) & 0xFFFFFFFF
        assert (found & 0xFFFF if value > 0xFF else found) == value, offset


def test_a_frame_of_the_grant_table_can_be_mapped_and_written() -> None:
    setup = struct.pack("<HHIh6xQ", SELF, 0, 2, 7, DATA + 64)
    entry = b"\x48\xa1" + u64(DATA + 72) + b"\x48\xc1\xe0\x0c\x48\x83\xc8\x67\x48\x89\xc6\x48\xbf"
    maps_it = entry + u64(HYPERCALLS) + b"\x31\xd2\xb8\x0e\0\0\0\x0f\x05"
    writes = b"\x48\xa3" + u64(HYPERCALLS)  # mov %rax, …
    assert answer(call(20, 2, DATA, 1) + maps_it + writes, setup) == 0
