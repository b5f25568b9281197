"""What Xen does for a PV guest that executes an instruction of ring 0 (xen/arch/x86/pv/emul-priv-op.c)."""

from __future__ import annotations

import struct

import pytest

from bootbuild.boot.prove import prove
from bootbuild.model.verdict import Outcome
from bootbuild_xenpv.environments.xen import XenDomU
from tiny_pv_guest import DATA, PHYSDEV_OP, STARTUP, call, guest, subject, u64

IOPL = call(PHYSDEV_OP, 6, DATA)  # PHYSDEVOP_set_iopl of what lies at DATA: 1
UNCANONICAL, HIGH = 1 << 63, 0xFFFF888000001234


def rdmsr(index: int) -> bytes:
    """mov $index, %ecx; rdmsr; shl $32, %rdx; or %rdx, %rax."""
    return b"\xb9" + struct.pack("<I", index) + b"\x0f\x32\x48\xc1\xe2\x20\x48\x09\xd0"


def wrmsr(index: int, value: int) -> bytes:
    """mov $index, %ecx; mov $low, %eax; mov $high, %edx; wrmsr."""
    loads = b"\xb9" + struct.pack("<I", index) + b"\xb8" + struct.pack("<I", value & 0xFFFFFFFF)
    return loads + b"\xba" + struct.pack("<I", value >> 32) + b"\x0f\x30"


EMULATED = {  # what is executed, and what RAX then is
    "mov %cr0, %rax": (b"\x0f\x20\xc0", 0x80050033),
    "CR0.TS, set": (b"\x0f\x20\xc0\x48\x83\xc8\x08\x0f\x22\xc0\x0f\x20\xc0", 0x8005003B),
    "CR0.TS, set and cleared by CLTS": (
        b"\x0f\x20\xc0\x48\x83\xc8\x08\x0f\x22\xc0\x0f\x06\x0f\x20\xc0",
        0x80050033,
    ),
    "mov %cr2, %rax": (b"\x0f\x20\xd0", 0),
    "mov %cr4, %rax": (b"\x0f\x20\xe0", 0x620),
    "mov %rax, %cr4": (b"\x0f\x20\xe0\x0f\x22\xe0\x0f\x20\xe0", 0x620),
    "mov %dr6, %rax": (b"\x0f\x21\xf0", 0xFFFF0FF0),
    "mov %dr7, %rax": (b"\x0f\x21\xf8", 0x400),
    "mov %rax, %dr7": (b"\x31\xc0\x0f\x23\xf8", 0),
    "with a REX prefix": (b"\x44\x0f\x21\xf8\x4c\x89\xc0", None),  # DR15: there is none
    "by R9": (b"\x41\x0f\x21\xf9\x4c\x89\xc8", 0x400),  # mov %dr7, %r9; mov %r9, %rax
    "rdmsr EFER": (rdmsr(0xC0000080), 0xD01),
    "rdmsr of the microcode's revision": (wrmsr(0x8B, 0) + rdmsr(0x8B), 0),
    "FS base": (wrmsr(0xC0000100, HIGH) + rdmsr(0xC0000100), HIGH),
    "GS base": (wrmsr(0xC0000101, HIGH) + rdmsr(0xC0000101), HIGH),
    "GS base of user mode": (
        wrmsr(0xC0000102, HIGH) + wrmsr(0xC0000101, 0x1000) + rdmsr(0xC0000102),
        HIGH,
    ),
    "an FS base that is no address": (wrmsr(0xC0000100, UNCANONICAL), None),
    "an MSR that a guest does not have": (rdmsr(0xC0000082), None),
    "an MSR that a guest may not write": (wrmsr(0xC0000080, 0xD01), None),
    "wbinvd": (b"\x31\xc0\x0f\x09", 0),
    "invd": (b"\x0f\x08", None),
    "lidt": (b"\x0f\x01\x1c\x24", None),
    "swapgs": (b"\x0f\x01\xf8", None),
    "sti": (b"\x31\xc0" + b"\xfb", None),
    "sti with IOPL": (IOPL + b"\x31\xc0\xfb", 0),
    "in without IOPL": (b"\xe4\x60", None),
    "in (%dx), %al": (IOPL + b"\x48\xc7\xc0\x00\x12\x00\x00\xec", 0x12FF),
    "in (%dx), %ax": (IOPL + b"\xb8\0\0\x34\x12\x66\xed", 0x1234FFFF),
    "in $0x60, %eax": (IOPL + b"\x48\x31\xc0\xe5\x60", 0xFFFFFFFF),
    "out %al, $0x80 with IOPL": (IOPL + b"\x31\xc0\xe6\x80", 0),
    "the PIT as the third of four ports": (IOPL + b"\xe4\x42\xe5\x40", 0xFFFEFFFF),
    "the PIT, which goes on": (IOPL + b"\x31\xc0\xe4\x42\x88\xc2\xe4\x42\x28\xc2\x0f\xb6\xc2", 1),
}


def string(code: bytes, count: int, address: int, port: int = 0x80) -> bytes:
    """With IOPL, RSI and RDI at `address`: `count` elements by an instruction; then RAX is that at DATA."""
    moves = b"\xba" + struct.pack("<I", port) + b"\x48\xbe" + u64(address) + b"\x48\xbf" + u64(address)
    return IOPL + moves + b"\x48\xb9" + u64(count) + code + b"\x48\xa1" + u64(DATA)


INSB, INSL, OUTSB = b"\xf3\x6c", b"\xf3\x6d", b"\xf3\x6e"
STRINGS = {  # what is executed → RAX, RCX, and how far RSI and RDI have come
    "rep insb": (string(INSB, 3, DATA), 0xFFFFFF, 0, 0, 3),
    "rep insl": (string(INSL, 2, DATA), 2**64 - 1, 0, 0, 8),
    "insw": (string(b"\x66\x6d", 7, DATA), 0xFFFF, 7, 0, 2),
    "rep insb, backwards": (string(b"\xfd" + INSB + b"\xfc", 2, DATA + 3), 0xFFFF0001, 0, 0, -2),
    "rep insb of nothing": (string(INSB, 0, DATA), 1, 0, 0, 0),
    "rep insb of the PIT": (string(INSB, 3, DATA, port=0x42), 0xFDFEFF, 0, 0, 3),
    "rep insb of more than is done at once": (string(INSB, 0x800, DATA + 0x10), 1, 0, 0, 0x800),
    "rep outsb": (string(OUTSB, 3, DATA), 1, 0, 3, 0),
    "repne outsl": (string(b"\xf2\x6f", 3, DATA), 1, 0, 12, 0),
}


@pytest.mark.parametrize("name", STRINGS)
def test_a_string_instruction_of_ports(name: str) -> None:
    code, rax, rcx, source, target = STRINGS[name]
    verdict = prove(subject(guest(first=code, data=b"\1")), XenDomU())
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    seen = verdict.runs[0].stop.registers
    start = DATA + (3 if "backwards" in name else 0x10 if "more" in name else 0)
    moved = [seen[index] - (start & 2**64 - 1) for index in ("rsi", "rdi")]
    assert (hex(seen["rax"]), seen["rcx"], *moved) == (hex(rax), rcx, source, target)


def page_fault(code: int, address: int) -> str:
    return f"for {address:#x}. The guest has no handler. Xen says `Unhandled: vec 14, #PF[{code:04x}]`"


FS_BASE = call(25, 0, 0x1000)  # set_segment_base: FS
NO_ACCESS = {  # what is executed → the page fault that the guest gets
    "ins to a page table": (
        b"\x49\x89\xf7" + IOPL + b"\x49\x8b\x7f\x58\xba\x80\0\0\0\x6c", "BB-B042", "a page table"
    ),
    "ins to nowhere": (string(INSB, 1, 0x1234), "BB-B040", page_fault(2, 0x1234)),
    "outs from nowhere": (string(OUTSB, 1, 0x1234), "BB-B040", page_fault(0, 0x1234)),
    "outs by FS": (FS_BASE + string(b"\x64" + OUTSB, 1, 0x1234), "BB-B040", page_fault(0, 0x2234)),
    "ins by FS, which it ignores": (FS_BASE + string(b"\x64" + INSB, 1, 0x1234), "BB-B040", "for 0x1234"),
    "outs of addresses of 32 bits": (string(b"\x67" + OUTSB, 1, 3 << 33 | 8), "BB-B040", page_fault(0, 8)),
    "ins to what is Xen's": (string(INSB, 1, 0xFFFF800000000000), "BB-B041", "INS at "),
    "ins without IOPL": (b"\xba\x80\0\0\0\x6c", "BB-B041", "INS at "),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ACCESS)
def test_a_string_instruction_without_access(name: str) -> None:
    code, rule, said = NO_ACCESS[name]
    (finding,) = prove(subject(guest(first=code, data=b"\1")), XenDomU()).findings
    assert (finding.rule, said in finding.message) == (rule, True), finding.message


def test_architectural_iopl_gives_a_kernel_its_ports() -> None:
    assist = call(21, 0, 4)  # vm_assist: enable
    verdict = prove(subject(guest(first=assist + b"\xe4\x60")), XenDomU())
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]


@pytest.mark.parametrize("name", EMULATED)
def test_an_instruction_of_ring_0(name: str) -> None:
    """None: Xen hands it to the guest as #GP, which has no handler here."""
    code, rax = EMULATED[name]
    verdict = prove(subject(guest(first=code, data=b"\1")), XenDomU())
    if rax is None:
        assert [f.rule for f in verdict.findings] == ["BB-B041"], [f.message for f in verdict.findings]
        return
    assert verdict.outcome is Outcome.BOOTED, [f.message for f in verdict.findings]
    stop = verdict.runs[0].stop
    assert (stop.ip, hex(stop.registers["rax"])) == (STARTUP, hex(rax))


def test_each_is_told_where_it_is_and_only_once() -> None:
    loop = b"\xb1\x05\x0f\x06\xfe\xc9\x75\xfa"  # mov $5, %cl; 1: clts; dec %cl; jnz 1b
    verdict = prove(subject(guest(first=loop)), XenDomU())
    told = [(event.kind, event.detail) for event in verdict.runs[0].events]
    assert told == [("privileged", "CLTS in ring 3 is emulated by Xen")]


def test_a_forced_cpuid_is_xens_and_a_plain_one_the_processors() -> None:
    """A PV guest is not shown what it cannot have: XSAVE, the APIC, machine checks."""
    forced = b"\xb8\0\0\0\x40\x0f\x0bxen\x0f\xa2\x89\xd8"  # leaf 0x40000000; mov %ebx, %eax
    plain = b"\xb8\0\0\0\x40\x0f\xa2\x89\xd8"
    seen = [
        prove(subject(guest(first=code)), XenDomU()).runs[0].stop.registers["rax"] for code in (forced, plain)
    ]
    assert seen[0] == int.from_bytes(b"XenV", "little")
    assert seen[1] != seen[0]
    features = b"\xb8\x01\0\0\0\x0f\x0bxen\x0f\xa2\x48\xc1\xe1\x20\x89\xd0\x48\x09\xc8"
    value = prove(subject(guest(first=features)), XenDomU()).runs[0].stop.registers["rax"]
    assert value >> 63, "the hypervisor bit"
    assert not value >> 32 & (1 << 26 | 1 << 27 | 1 << 3)
    assert not value & (1 << 9 | 1 << 7 | 1 << 12 | 1 << 14)
