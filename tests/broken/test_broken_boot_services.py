"""A kernel that Multiboot2 enters while UEFI's boot services are alive: the firmware stays as it was."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.boot.prove import prove
from bootbuild.host import Host
from bootbuild.model.blob import Fixup
from bootbuild.model.payload import Startup
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.model.waist import Piece
from bootbuild_baremetal.environments.grub_efi import Multiboot2
from test_broken_handovers import after_back, change, check, hello, piece, table
from test_broken_multiboot_guests import branch, header_2
from test_refused_multiboot_images import tag
from tiny_guest import ENTRY, STARTUP, guest, subject, u32

EFI = Multiboot2()
Pieces = Callable[[tuple[Piece, ...]], tuple[Piece, ...]]


def before_back(code: bytes) -> Pieces:
    """The chain with `code` run between UEFI's front and its back, which are the last two pieces."""

    def pieces(chain: tuple[Piece, ...]) -> tuple[Piece, ...]:
        waist, text = chain[-1].takes, code + b"\xe9" + u32(0)
        assert waist is not None
        between = piece(text, waist, waist, [Fixup(len(text) - 4, "pc32", "bb_next", -4)])
        return (*chain[:-1], between, chain[-1])

    return pieces


def resealed(field: str, amount: int) -> bytes:
    """A field of the record changed, and its checksum with it."""
    return change(field, amount) + change("checksum", -amount)


RECORD_CASES = {
    "boot services that are said to have ended": ("BB-H007", resealed("flags", -1)),
    "another EFI system table": ("BB-H007", resealed("efi_system_table", 8)),
    "a map that nobody gave": ("BB-H009", resealed("memmap_count", 1)),
    "another boot type": ("BB-H004", resealed("boot_type", -2)),
}
ZERO_RAX = b"\x31\xc0"  # xor %eax, %eax
STATE_CASES = {
    "interrupts off": b"\xfa",
    "direction flag set": b"\xfd",
    "a register that is not 0": b"\x41\xb7\x01",  # mov $1, %r15b
    "another IDT": table(0xFFF, b"\x0f\x01\x1c\x24") + b"\xfb",  # lidt (%rsp); sti
    "another GDT": table(0x47, b"\x0f\x01\x14\x24") + b"\xfb",  # lgdt (%rsp); sti
    "another DS": b"\xb0\x18\x8e\xd8" + ZERO_RAX,  # mov $0x18, %al; mov %eax, %ds
    "SSE off": b"\x0f\x20\xe0\x80\xe4\xfd\x0f\x22\xe0" + ZERO_RAX,  # clear CR4.OSFXSR
    "write protection off": b"\x0f\x20\xc0\x25" + u32(0x8000FFFF) + b"\x0f\x22\xc0" + ZERO_RAX,
    "a stack that is off by 8": b"\x6a\x00",
    "a return address": b"\x58\x6a\x01" + ZERO_RAX,
}


def test_the_unbroken_chain_boots(tmp_path: Path) -> None:
    for pieces in (lambda chain: chain, before_back(b""), after_back(b"")):
        verdict = hello(64, tmp_path).prove(pieces, EFI)
        assert [finding.message for finding in verdict.findings] == []
        assert verdict.outcome is Outcome.BOOTED
        assert len({run.digest for run in verdict.runs}) == 1


@pytest.mark.parametrize("name", RECORD_CASES)
def test_a_changed_record_has_exactly_its_finding(name: str, tmp_path: Path) -> None:
    rule, code = RECORD_CASES[name]
    check(hello(64, tmp_path).prove(before_back(code), EFI), rule)


@pytest.mark.parametrize("name", STATE_CASES)
def test_a_changed_firmware_has_exactly_its_finding(name: str, tmp_path: Path) -> None:
    verdict = hello(64, tmp_path).prove(after_back(STATE_CASES[name]), EFI)
    check(verdict, "BB-H003")
    assert len(verdict.findings) == 1


# -- kernels with both tags of their own: 64-bit code at ENTRY, which goes on to STARTUP


def kernel(code: bytes) -> bytes:
    """`code` at the entry of UEFI, then its startup path."""
    jump = b"\xe9" + u32(STARTUP - (ENTRY + len(code) + 5))
    return guest(first=code + jump, bits=64, headers=header_2(tag(7), tag(9, ENTRY)))


def proved(data: bytes) -> ProfileVerdict:
    what = replace(subject(data, cmdline=b"quiet"), startup=Startup("startup_64", STARTUP, STARTUP, 64))
    return prove(what, EFI, Host.discover().loader(EFI.loader))


SYSTEM_TABLE = (  # %rax = what tag 12 of the information at %rbx says
    b"\x48\x8d\x73\x08"  # lea 8(%rbx), %rsi
    b"\x83\x3e\x0c\x74\x0e"  # 1: cmpl $12, (%rsi); je 2f
    b"\x8b\x46\x04\x83\xc0\x07\x83\xe0\xf8"  # mov 4(%rsi), %eax; add $7, %eax; and $-8, %eax
    b"\x48\x01\xc6\xeb\xed"  # add %rax, %rsi; jmp 1b
    b"\x48\x8b\x46\x08"  # 2: mov 8(%rsi), %rax
)


def call(table_at: int, service: int) -> bytes:
    """sub $40, %rsp; mov table_at(system table), %rax; call *service(%rax); add $40, %rsp."""
    to_table = SYSTEM_TABLE + b"\x48\x8b\x80" + u32(table_at)
    return b"\x48\x83\xec\x28" + to_table + b"\xff\x90" + u32(service) + b"\x48\x83\xc4\x28"


def if_not_unsupported(taken: bytes) -> bytes:
    """movabs $EFI_UNSUPPORTED, %rdx; cmp %rdx, %rax; je over `taken`."""
    return b"\x48\xba" + struct.pack("<Q", 1 << 63 | 3) + b"\x48\x39\xd0\x74" + bytes([len(taken)]) + taken


def test_a_kernel_of_its_own_boots() -> None:
    verdict = proved(kernel(b""))
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


CALLS = {
    "ExitBootServices": (96, 24 + 26 * 8),
    "GetMemoryMap": (96, 24 + 4 * 8),
    "GetVariable": (88, 24 + 6 * 8),
    "ConOut.OutputString": (64, 8),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_service_that_is_not_modelled_says_so(name: str) -> None:
    verdict = proved(kernel(call(*CALLS[name]) + if_not_unsupported(b"\x0f\x0b")))  # ud2
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    for run in verdict.runs:
        (event,) = run.events
        assert event.kind == "boot service"
        assert event.detail == f"{name} was called, which is not modelled: EFI_UNSUPPORTED"


TO_FIRMWARE = b"\x0f\x20\xd8"  # mov %cr3, %rax
RELIES: dict[str, tuple[str, bytes]] = {
    "takes R9 for zero": ("BB-U001", branch(b"\x4d\x85\xc9")),
    "takes RDX for zero": ("BB-U001", branch(b"\x48\x85\xd2")),
    "takes the stack for aligned": ("BB-U002", branch(b"\x40\xf6\xc4\x0f")),  # test $15, %spl
    "takes the parity flag as it is": ("BB-U005", branch(b"\x9c\x58\xa8\x04")),
    "takes free memory for zero": ("BB-U006", branch(b"\x83\x3c\x25" + u32(0x3000000) + b"\x00")),
}
WRONG: dict[str, tuple[str, bytes]] = {
    "writes to the firmware's page tables": ("BB-B003", TO_FIRMWARE + b"\x48\x89\x00"),  # mov %rax, (%rax)
    "writes to the system table": ("BB-B003", SYSTEM_TABLE + b"\x48\x89\x00"),
    "writes behind memory": ("BB-B002", b"\xa3" + struct.pack("<Q", 0x40000000)),
}


@pytest.mark.parametrize("name", RELIES)
def test_what_uefi_leaves_undefined_is_seen(name: str) -> None:
    rule, code = RELIES[name]
    verdict = proved(kernel(code))
    assert [finding.rule for finding in verdict.findings] == [rule]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_the_kernels_to_write_is_seen(name: str) -> None:
    rule, code = WRONG[name]
    verdict = proved(kernel(code))
    assert [finding.rule for finding in verdict.findings] == [rule]
    assert verdict.outcome is Outcome.FAILED
