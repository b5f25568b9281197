"""A guest with VMASST_TYPE_writable_pagetables stores to a table of level 1, and Xen makes it an update."""

from __future__ import annotations

import struct

import pytest

from bootbuild.boot.prove import prove
from bootbuild.model.verdict import Finding, Outcome, ProfileVerdict
from bootbuild_xenpv.environments.xen import XenDomU
from bootbuild_xenpv.hypervisor import stores
from tiny_pv_guest import HYPERCALLS, PT_BASE, VIRT_BASE, call, guest, subject, u64

ASSIST = call(21, 0, 2)  # vm_assist: enable writable_pagetables
# mov %rsi, %r15; …; mov PT_BASE(%r15), %rbx: a hypercall takes RSI
FIRST, TABLES = b"\x49\x89\xf7", b"\x49\x8b\x5f" + bytes([PT_BASE])
ENTRY = struct.pack("<i", 0x3000 + 8 * ((HYPERCALLS - VIRT_BASE) >> 12))  # tables: L4, L3, L2, L1
READ = b"\x48\x8b\x83" + ENTRY  # mov ENTRY(%rbx), %rax
MOVE = b"\x48\x89\x83" + ENTRY  # mov %rax, ENTRY(%rbx)
EXCHANGE = b"\x48\x87\x83" + ENTRY
CLEAR = b"\x48\xc7\x83" + ENTRY + bytes(4)  # movq $0, ENTRY(%rbx)
TOUCH = b"\x48\xa1" + u64(HYPERCALLS)  # mov HYPERCALLS, %rax


def run(code: bytes, assist: bytes = ASSIST) -> ProfileVerdict:
    return prove(subject(guest(first=FIRST + assist + TABLES + code)), XenDomU())


def only(verdict: ProfileVerdict) -> Finding:
    (finding,) = verdict.findings
    return finding


def test_without_the_assistance_a_store_is_a_page_fault() -> None:
    assert only(run(READ + MOVE, assist=b"")).rule == "BB-B042"


@pytest.mark.parametrize("code", [READ + MOVE, READ + MOVE + TOUCH, READ + EXCHANGE + EXCHANGE + TOUCH])
def test_an_entry_may_be_stored(code: bytes) -> None:
    verdict = run(code)
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]


def test_what_is_stored_is_in_force_at_once() -> None:
    assert "startup_64 was not reached: #PF at " in only(run(CLEAR + TOUCH)).message
    assert run(READ + CLEAR + MOVE + TOUCH).outcome is Outcome.BOOTED


def test_an_exchange_gives_the_old_entry() -> None:
    verdict = run(READ + b"\x48\x89\xc1" + EXCHANGE + b"\x48\x29\xc8")  # mov %rax, %rcx; …; sub %rcx, %rax
    assert verdict.runs[0].stop.registers["rax"] == 0


def test_a_store_that_no_update_could_make_is_refused() -> None:
    wrong = b"\x48\xc7\x83" + ENTRY + struct.pack("<I", 0x102067)  # the guest's own number of its frame
    finding = only(run(wrong))
    assert finding.rule == "BB-B042"
    told = [e.detail for e in run(wrong).runs[0].events if e.kind == "refused"]
    assert told and told[0].startswith("store to a page table: machine frame 0x102 is not this domain's; ")


def test_only_tables_of_level_1_are_writable_so() -> None:
    assert only(run(b"\x48\x89\x03")).rule == "BB-B042"  # mov %rax, (%rbx): the root


STORES = {  # code → (size, register, immediate)
    "mov %rax, (%rbx)": ("488903", 3, 0, 0),
    "mov %r9, 8(%rbx)": ("4c894b08", 4, 9, 0),
    "mov %rax, (%r12)": ("49890424", 4, 0, 0),
    "mov %rdi, 0x12345678(%rax,%rcx,8)": ("4889bcc878563412", 8, 7, 0),
    "mov %rdi, 0x12345678(,%rcx,8)": ("48893ccd78563412", 8, 7, 0),
    "mov %rax, 0x10(%rip)": ("48890510000000", 7, 0, 0),
    "movq $-2, (%rbx)": ("48c703feffffff", 7, None, 2**64 - 2),
    "xchg %rdx, (%rbx)": ("488713", 3, 2, 0),
}
OTHERS = ["8903", "668903", "4889c3", "488b03", "48c7c001000000", "0f11", "f0480fb10b"]


@pytest.mark.parametrize("name", STORES)
def test_a_store_is_taken_apart(name: str) -> None:
    code, size, register, immediate = STORES[name]
    found = stores.decode(bytes.fromhex(code).ljust(15, b"\x90"))
    assert found == stores.Store(size, register, immediate, exchanges=name.startswith("xchg"))


@pytest.mark.parametrize("code", OTHERS)
def test_another_instruction_is_not_taken(code: str) -> None:
    """Of four bytes, from memory, between registers, or with a lock."""
    assert stores.decode(bytes.fromhex(code).ljust(15, b"\x90")) is None
