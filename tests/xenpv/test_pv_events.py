"""Events: kept in shared_info as Xen does, and told to the guest whenever it leaves Xen."""

from __future__ import annotations

import struct

import pytest

from bootbuild.boot.prove import prove
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from tiny_pv_guest import DATA, HYPERCALLS, SET_TRAP_TABLE, STARTUP, call, guest, subject, traps, u64

HANDLER = STARTUP + 0x200
EVENT_CHANNEL_OP, VCPU_OP, SCHED_OP, UPDATE_VA_MAPPING = 32, 24, 29, 14
PENDING, SELECTOR = 2048, 8  #: evtchn_pending in shared_info, evtchn_pending_sel in vcpu_info
# shared_info, mapped at HYPERCALLS: start_info has its machine address at 0x28
SHARED = (
    b"\x48\x8b\x46\x28\x48\x83\xc8\x63\x48\x89\xc6\x48\xbf" + u64(HYPERCALLS)  # mov; or $0x63; mov %rax, %rsi
    + b"\x31\xd2\xb8" + struct.pack("<I", UPDATE_VA_MAPPING) + b"\x0f\x05"
)  # fmt: skip
UNMASK = b"\x31\xc0\xa2" + u64(HYPERCALLS + 1)  # xor %eax, %eax; mov %al, evtchn_upcall_mask
CALLBACK = call(4, HANDLER, 0, 0)
BIND_IPI = call(EVENT_CHANNEL_OP, 7, DATA)  # the port comes to DATA + 4
SEND = call(EVENT_CHANNEL_OP, 4, DATA + 4)
UD2 = b"\x0f\x0b"


def run(first: bytes, handler: bytes = UD2, data: bytes = b"", *, dom0: bool = False) -> ProfileVerdict:
    startup = b"\xeb\xfe".ljust(0x200, b"\0") + handler
    return prove(subject(guest(first=first, startup=startup, data=data)), XenDom0() if dom0 else XenDomU())


def jump(code: bytes) -> bytes:
    """Code of the handler that goes on to the startup path."""
    return code + b"\xe9" + struct.pack("<i", STARTUP - (HANDLER + len(code) + 5))


def outcome(verdict: ProfileVerdict) -> tuple[Outcome, list[str]]:
    return verdict.outcome, [f.message for f in verdict.findings]


BOOTED: tuple[Outcome, list[str]] = (Outcome.BOOTED, [])
READY = SHARED + CALLBACK + BIND_IPI


@pytest.mark.parametrize("dom0", [False, True])
def test_an_event_calls_the_guest_back_when_it_leaves_xen(dom0: bool) -> None:
    # frame: rcx, r11, rip, cs, rflags, …: CS has RPL 0 and the mask that was, IF what it was
    checks = b"\x48\x81\x7c\x24\x18\x30\xe0\0\0\x74\x02" + UD2  # cmpq $0xe030, 24(%rsp)
    checks += b"\xf7\x44\x24\x20\0\x02\0\0\x75\x02" + UD2  # testl $0x200, 32(%rsp)
    checks += b"\xa0" + u64(HYPERCALLS + 1) + b"\x3c\x01\x74\x02" + UD2  # evtchn_upcall_mask is 1
    port = 1 if dom0 else 3  # the first that is free
    for offset, value in ((PENDING, 1 << port), (SELECTOR, 1)):
        checks += b"\x48\xa1" + u64(HYPERCALLS + offset) + b"\x48\x3d" + struct.pack("<I", value)
        checks += b"\x74\x02" + UD2  # mov …, %rax; cmp; je
    assert outcome(run(READY + UNMASK + SEND + UD2, jump(checks), dom0=dom0)) == BOOTED


def test_while_events_are_masked_none_is_told() -> None:
    assert outcome(run(READY + SEND)) == BOOTED


def test_what_is_pending_is_told_by_the_next_hypercall() -> None:
    assert outcome(run(READY + SEND + UNMASK + call(17, 0) + UD2, jump(b""))) == BOOTED


def test_what_is_pending_is_told_on_the_way_back_from_an_exception() -> None:
    """The handler of the exception has events unmasked: it is interrupted at its first instruction."""
    code = READY + call(SET_TRAP_TABLE, DATA + 0x80) + SEND + UNMASK + UD2
    elsewhere = traps({6: STARTUP + 0x180})  # a trap table's handler, where there is nothing
    assert outcome(run(code, jump(b""), bytes(0x80) + elsewhere)) == BOOTED


def test_an_event_without_a_callback_ends_the_domain() -> None:
    (finding,) = run(SHARED + BIND_IPI + UNMASK + SEND).findings
    assert finding.rule == "BB-B040"
    assert "there is no event callback" in finding.message


def test_iret_unmasks_events_by_the_if_of_its_frame() -> None:
    frame = (
        b"\x54\x58\x68" + struct.pack("<I", 0xE02B) + b"\x50\x68\x02\x02\0\0\x68" + struct.pack("<I", 0xE030)
    )
    frame += b"\x48\xb9" + u64(STARTUP + 0x100) + b"\x51" + b"\x6a\0" * 4 + b"\xb8\x17\0\0\0\x0f\x05"
    assert outcome(run(READY + SEND + frame, jump(b""))) == BOOTED


def test_a_console_that_has_taken_what_was_in_its_ring_tells() -> None:
    """Xenconsoled: there is room again. Its ring is the second page behind start_info, and its port is 2."""
    puts = b"\xc7\x86" + struct.pack("<II", 0x2000 + 3084, 1)  # movl $1, out_prod(%rsi)
    port = struct.pack("<II", 0, 2)
    assert outcome(run(puts + SHARED + CALLBACK + UNMASK + SEND + UD2, jump(b""), port)) == BOOTED
    assert outcome(run(SHARED + CALLBACK + UNMASK + SEND, data=port)) == BOOTED, "nothing was there"


TIMER = call(EVENT_CHANNEL_OP, 1, DATA + 0x40)  # bind_virq of VIRQ_TIMER
ARM = call(VCPU_OP, 8, 0, DATA + 0x20)  # the timeout is at DATA + 0x20


@pytest.mark.parametrize("timeout", [0, 1])
def test_a_timeout_in_the_past_is_told_at_once(timeout: int) -> None:
    data = bytes(0x20) + u64(timeout)
    assert outcome(run(SHARED + CALLBACK + TIMER + UNMASK + ARM + UD2, jump(b""), data)) == BOOTED


def test_who_blocks_sleeps_up_to_its_timeout() -> None:
    """An hour of it: vcpu_info's clock has gone on, by an even version."""
    hour = 3_600_000_000_000
    data = bytes(0x20) + u64(hour)
    # mov system_time, %rax; mov $hour, %rcx; sub $1000000, %rcx for the TSC's share; cmp; jae
    looks = (
        b"\x48\xa1"
        + u64(HYPERCALLS + 48)
        + b"\x48\xb9"
        + u64(hour - 1_000_000)
        + b"\x48\x39\xc8\x73\x02"
        + UD2
    )
    looks += b"\xa0" + u64(HYPERCALLS + 32) + b"\xa8\x01\x74\x02" + UD2  # test $1, version
    block = call(SCHED_OP, 1, 0)
    assert outcome(run(SHARED + CALLBACK + TIMER + ARM + block + UD2, jump(looks), data)) == BOOTED


def test_a_timeout_passes_while_the_guest_runs() -> None:
    """Its clock is the TSC's, of 1 GHz: the next hypercall, after so many instructions, is late enough."""
    spins = b"\xb9\x40\x0d\x03\0\xff\xc9\x75\xfc"  # mov $200000, %ecx; dec %ecx; jnz
    code = SHARED + CALLBACK + TIMER + UNMASK + ARM + spins + call(17, 0)
    assert outcome(run(code + UD2, jump(b""), bytes(0x20) + u64(300_000))) == BOOTED
    assert outcome(run(code, data=bytes(0x20) + u64(900_000))) == BOOTED


@pytest.mark.parametrize("timeout", [-1, 1 << 62, 1 << 51])
def test_a_timeout_of_set_timer_op_that_is_absurd_is_one_of_100_ms(timeout: int) -> None:
    """do_set_timer_op: Linux had wrapped clocks."""
    looks = b"\x48\xa1" + u64(HYPERCALLS + 48)  # mov system_time, %rax; sub $99 ms; cmp $1 ms; jb
    looks += b"\x48\x2d" + struct.pack("<I", 99_000_000) + b"\x48\x3d" + struct.pack("<I", 1_000_000)
    looks += b"\x72\x02" + UD2
    arm, block = call(15, timeout), call(SCHED_OP, 1, 0)
    assert outcome(run(SHARED + CALLBACK + TIMER + arm + block + UD2, jump(looks))) == BOOTED


def test_a_timeout_of_vcpu_op_is_signed() -> None:
    data = bytes(0x20) + u64(1 << 63)
    assert outcome(run(SHARED + CALLBACK + TIMER + UNMASK + ARM + UD2, jump(b""), data)) == BOOTED


def test_what_a_guest_writes_into_its_clock_is_not_xens_time() -> None:
    """Xen tells its time there, and never looks: the run state has it as it is."""
    wrecks = b"\x48\xc7\xc0\xff\xff\xff\xff" + b"".join(  # mov $-1, %rax; mov %rax, …
        b"\x48\xa3" + u64(HYPERCALLS + 32 + at) for at in (8, 16, 24)
    )
    state = call(VCPU_OP, 4, 0, DATA) + b"\x48\xa1" + u64(DATA + 16)  # time[RUNSTATE_running]
    sane = b"\x48\x3d" + struct.pack("<I", 1_000_000) + b"\x72\x02" + UD2
    assert outcome(run(SHARED + wrecks + state + sane)) == BOOTED


def test_a_stopped_timer_is_not_told() -> None:
    data = bytes(0x20) + u64(3_600_000_000_000)
    stop, block = call(VCPU_OP, 9, 0, 0), call(SCHED_OP, 1, 0)
    assert outcome(run(SHARED + CALLBACK + TIMER + ARM + stop + block, data=data)) == BOOTED
