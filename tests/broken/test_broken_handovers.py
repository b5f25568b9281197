"""The native handover, broken on purpose: a saboteur among the stubs changes one thing of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import pytest

from bootbuild.abi.handover import LAYOUT
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject, code_at
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.guests.rules import RULES
from bootbuild.model.blob import Blob, Fixup, Section
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.machine import Offer
from bootbuild.model.payload import Payload
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.model.waist import Piece, Waist
from bootbuild.stubs.pieces import switches
from bootbuild_pvh.environments import Qemu
from bootbuild_pvh.targets import Pvh
from tiny_guest import u32

CMDLINE = b"one two"
MODULE = ("module", MemoryContent(b"the bytes of a module"), b"")
_SIZES = {"I": 4, "Q": 8}


def offset_of(name: str) -> int:
    """Offset of a field of struct bb_handover."""
    at = 0
    for field, code in LAYOUT:
        if field == name:
            return at
        at += _SIZES[code]
    raise KeyError(name)


def store(field: str, value: int) -> bytes:
    """movl $value, field(%esi): the low half of a field of the record."""
    return b"\xc7\x86" + u32(offset_of(field)) + u32(value)


def through(field: str, displacement: int, value: int) -> bytes:
    """mov field(%esi), %edx; movl $value, displacement(%edx): what a field of the record points to."""
    return b"\x8b\x96" + u32(offset_of(field)) + b"\xc7\x82" + u32(displacement) + u32(value)


def change(field: str, amount: int) -> bytes:
    """addl $amount, field(%esi)."""
    return b"\x81\x86" + u32(offset_of(field)) + u32(amount)


SEAL = (  # the checksum of the changed record, so that only the change is wrong
    b"\xc7\x46\x0c" + u32(0)  # movl $0, checksum(%esi)
    + b"\x31\xc0\xb9" + u32(0xA8 // 4) + b"\x89\xf2"  # xor %eax,%eax; mov $words,%ecx; mov %esi,%edx
    + b"\x03\x02\x83\xc2\x04\x49\x75\xf8"  # 1: add (%edx),%eax; add $4,%edx; dec %ecx; jnz 1b
    + b"\xf7\xd8\x89\x46\x0c"  # neg %eax; mov %eax, checksum(%esi)
)  # fmt: skip


def piece(code: bytes, takes: Waist, leaves: Waist | None, fixups: Sequence[Fixup] = ()) -> Piece:
    exports: dict[str, tuple[Section, int]] = {"saboteur": (".text", 0)}
    blob = Blob("saboteur", takes.width, code, 16, 0, 1, tuple(fixups), exports, "by hand")
    return Piece(blob, "saboteur", takes, leaves)


def between(code: bytes) -> Piece:
    """A piece at the 32-bit waist that runs `code` and goes on."""
    text = code + b"\xe9" + u32(0)  # jmp bb_next
    return piece(text, Waist(32), Waist(32), [Fixup(len(text) - 4, "pc32", "bb_next", -4)])


def back64(code: bytes, startup: int) -> Piece:
    """A back for width 64 that does what native_64 does, then runs `code`, then jumps."""
    own = b"\x48\x83\xe4\xf0\x6a\x00"  # and $-16,%rsp; push $0
    return piece(own + code + b"\x48\xb8" + struct.pack("<Q", startup) + b"\xff\xe0", Waist(64), None)


def back32(code: bytes, startup: int) -> Piece:
    """The same for width 32: arguments on the stack below a zero return address."""
    own = b"\x83\xe4\xf0\x56\x57\x6a\x00"  # and $-16,%esp; push %esi; push %edi; push $0
    return piece(own + code + b"\xb8" + u32(startup) + b"\xff\xe0", Waist(32), None)


@dataclass(frozen=True)
class Hello:
    """hello at one width, ready to be built with other pieces."""

    payload: Payload
    folder: Path

    def prove(
        self, pieces: Callable[[tuple[Piece, ...]], tuple[Piece, ...]], **kwargs: object
    ) -> ProfileVerdict:
        contribution = Pvh().contribute(self.payload, Native(), None)
        contribution = replace(contribution, chain=pieces(contribution.chain))
        holder, path = container("elf"), self.folder / "broken.elf"
        layout = holder.lay_out(self.payload, [contribution])
        holder.write(self.payload, layout, path)
        what = Subject(
            image=read_elf(FileContent(path), "broken.elf"),
            startup=self.payload.startup,
            guest=Native(),
            offer=Offer(cmdline=CMDLINE, modules=(MODULE,)),
            stub=layout.stub,
            symbols={},
            expect=b"",
            budget=20_000_000,
            timeout=30.0,
            code=code_at(self.payload.elf, self.payload.startup),
        )
        return prove(what, Qemu(), **kwargs)  # type: ignore[arg-type]


def hello(width: int, folder: Path) -> Hello:
    path = Path(str(resources.files("bootbuild") / "guests" / "hello" / f"hello{width}.elf"))
    opened = open_payload(path)
    elf = opened.elf
    startup = find_startup(elf, f"startup_{width}", width)
    return Hello(Payload(elf, str(path), opened.format, opened.digest, "native", startup), folder)


def after_front(code: bytes) -> Callable[[tuple[Piece, ...]], tuple[Piece, ...]]:
    return lambda chain: (chain[0], between(code), *chain[1:])


RECORD_CASES = {
    "another magic": ("BB-H002", store("magic", 0) + SEAL),
    "version 0": ("BB-H002", store("version", 0) + SEAL),
    "a size that no record has": ("BB-H002", store("size", 8) + SEAL),
    "a checksum that does not hold": ("BB-H002", change("flags", 8)),
    "no record where the register points": ("BB-H002", b"\xbe" + u32(0x3000000)),
    "another boot type in the record": ("BB-H004", store("boot_type", 3) + SEAL),
    "another boot type in the register": ("BB-H004", b"\xbf" + u32(3)),
    "another hypervisor type": ("BB-H005", store("hypervisor_type", 1) + SEAL),
    "another data pointer": ("BB-H006", change("data", 8) + SEAL),
    "another RSDP": ("BB-H007", change("rsdp", 16) + SEAL),
    "an EFI system table out of nothing": ("BB-H007", store("efi_system_table", 0x1000) + SEAL),
    "another environment map": ("BB-H007", change("env_memmap", 24) + SEAL),
    "no command line": ("BB-H008", store("cmdline", 0) + SEAL),
    "another command line": ("BB-H008", change("cmdline", 1) + SEAL),
    "a command line that is not mapped": ("BB-H008", store("cmdline", 0xF0000000) + SEAL),
    "a lost map entry": ("BB-H009", change("memmap_count", -1) + SEAL),
    "a changed map entry": ("BB-H009", through("memmap", 16, 5)),
    "a map that is not mapped": ("BB-H009", store("memmap", 0xF0000000) + SEAL),
    "a lost module": ("BB-H010", store("module_count", 0) + store("modules", 0) + SEAL),
    "a module of another size": ("BB-H010", through("modules", 8, 5)),
    "a module elsewhere": ("BB-H010", through("modules", 0, 0x100000)),
    "a module command line that nobody gave": ("BB-H010", through("modules", 16, 0x11C0)),
    "another stub range": ("BB-H011", change("stub_size", 0x1000) + SEAL),
    "a post stub elsewhere": ("BB-H011", store("post_stub", 0x100000) + SEAL),
}

NO_FOURTH_GIB = (  # mov %cr3,%rax; mov (%rax),%rax; and $~0xfff,%rax; movq $0,24(%rax); reload %cr3
    b"\x0f\x20\xd8\x48\x8b\x00\x48\x25\x00\xf0\xff\xff"
    b"\x48\xc7\x40\x18\x00\x00\x00\x00\x0f\x20\xd8\x0f\x22\xd8"
)
SET_LME = (  # mov $EFER, %ecx; rdmsr; or $LME, %eax; wrmsr
    b"\xb9" + u32(0xC0000080) + b"\x0f\x32\x0d" + u32(0x100) + b"\x0f\x30"
)
STATE_CASES = {
    (64, "interrupts on"): ("BB-H003", b"\xfb"),
    (64, "direction flag set"): ("BB-H003", b"\xfd"),
    (64, "a stack that is off by 8"): ("BB-H003", b"\x6a\x00"),
    (64, "a return address"): ("BB-H003", b"\x58\x6a\x01"),
    (64, "a stack that is not mapped"): ("BB-H003", b"\x48\xbc" + struct.pack("<Q", 0x0000700000000008)),
    (64, "no map of the fourth GiB"): ("BB-H003", NO_FOURTH_GIB),
    (32, "interrupts on"): ("BB-H003", b"\xfb"),
    (32, "a return address"): ("BB-H003", b"\x58\x6a\x01"),
    (32, "arguments that are not the registers"): ("BB-H003", b"\x47"),  # inc %edi
    (32, "long mode enabled"): ("BB-H003", SET_LME),
    (32, "no stack"): ("BB-H001", b"\xbc" + u32(0xF0000000)),
}


def check(verdict: ProfileVerdict, rule: str) -> None:
    assert {finding.rule for finding in verdict.findings} == {rule}, [f.message for f in verdict.findings]
    assert verdict.outcome is Outcome.FAILED


@pytest.mark.parametrize("width", [32, 64])
def test_the_unbroken_chain_boots(width: int, tmp_path: Path) -> None:
    assert hello(width, tmp_path).prove(lambda chain: chain).findings == ()


def test_the_way_to_64_bits_and_back_leaves_nothing_of_it(tmp_path: Path) -> None:
    """EFER.LME among it: no front leaves long mode yet, so nothing else goes this way."""
    there_and_back = {piece.takes: piece for piece in switches()}

    def pieces(chain: tuple[Piece, ...]) -> tuple[Piece, ...]:
        front, back = chain
        return (front, there_and_back[Waist(32)], there_and_back[Waist(64)], back)

    verdict = hello(32, tmp_path).prove(pieces)
    assert [finding.message for finding in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED


@pytest.mark.parametrize("width", [32, 64])
def test_a_saboteur_that_changes_nothing_is_no_finding(width: int, tmp_path: Path) -> None:
    subject = hello(width, tmp_path)
    assert subject.prove(after_front(SEAL)).findings == ()
    back = back64 if width == 64 else back32
    assert (
        subject.prove(lambda chain: (*chain[:-1], back(b"", subject.payload.startup.address))).findings == ()
    )


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", RECORD_CASES)
def test_a_changed_record_has_exactly_its_finding(name: str, width: int, tmp_path: Path) -> None:
    rule, code = RECORD_CASES[name]
    subject = hello(width, tmp_path)
    check(subject.prove(after_front(code)), rule)
    assert subject.prove(after_front(code), disabled=frozenset({rule})).outcome is not Outcome.FAILED


@pytest.mark.parametrize(("width", "name"), STATE_CASES)
def test_a_changed_state_has_exactly_its_finding(width: int, name: str, tmp_path: Path) -> None:
    rule, code = STATE_CASES[width, name]
    subject = hello(width, tmp_path)
    back = back64 if width == 64 else back32

    def pieces(chain: tuple[Piece, ...]) -> tuple[Piece, ...]:
        return (*chain[:-1], back(code, subject.payload.startup.address))

    check(subject.prove(pieces), rule)
    assert subject.prove(pieces, disabled=frozenset({rule})).outcome is not Outcome.FAILED


@pytest.mark.parametrize("width", [32, 64])
def test_a_byte_in_the_payloads_bss_is_a_finding(width: int, tmp_path: Path) -> None:
    subject = hello(width, tmp_path)
    end = max(s.paddr + s.memsz for s in subject.payload.elf.loads if s.memsz > s.filesz)
    check(subject.prove(after_front(b"\xc6\x05" + u32(end - 1) + b"\x01")), "BB-B021")


def test_every_rule_of_the_handover_has_its_case() -> None:
    seen = {rule for rule, _ in (*RECORD_CASES.values(), *STATE_CASES.values())}
    assert seen == {rule.id for rule in RULES}
