"""The native handover, broken on purpose: a saboteur among the stubs changes one thing of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import pytest

from bootbuild.abi.handover import LAYOUT
from bootbuild.api import Profile
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
from bootbuild.model.contribution import Contribution
from bootbuild.model.machine import Offer
from bootbuild.model.payload import Payload
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.model.waist import Piece, Waist
from bootbuild.stubs.pieces import switches
from bootbuild_baremetal.options import Options2
from bootbuild_baremetal.targets import Multiboot2
from bootbuild_pvh.environments import Qemu
from bootbuild_pvh.targets import Pvh
from bootbuild_xenpv.environments.xen import XenDom0, XenDomU
from bootbuild_xenpv.targets import XenPv
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


def after_back(code: bytes, shift: int = 0) -> Callable[[tuple[Piece, ...]], tuple[Piece, ...]]:
    """The chain with `code` run behind its back, which returns to it instead of to the startup path.

    `shift`: what the stubs' addresses lie above their physical ones when they run.
    """

    def pieces(chain: tuple[Piece, ...]) -> tuple[Piece, ...]:
        *others, own = chain
        blob, wide = own.blob, own.blob.width == 64
        word = len(blob.text)  # where the back finds its way; the code is behind
        text = blob.text + bytes(8) + code + b"\xff\x25" + u32(0)  # jmp *bb_params.startup
        fixups = [
            replace(fixup, symbol=".text", addend=fixup.addend + word)
            if fixup.symbol == "bb_params" and fixup.addend <= 0  # where to go: the first of them
            else fixup
            for fixup in blob.fixups
        ]
        fixups.append(Fixup(word, "abs64" if wide else "abs32", ".text", word + 8 + shift))
        fixups.append(Fixup(len(text) - 4, "pc32" if wide else "abs32", "bb_params", -4 if wide else 0))
        return (*others, replace(own, blob=replace(blob, text=text, fixups=tuple(fixups))))

    return pieces


CONTRIBUTED: dict[str, Callable[[Payload], Contribution]] = {
    "pvh": lambda payload: Pvh().contribute(payload, Native(), None),
    "xen-pv": lambda payload: XenPv().contribute(payload, Native(), XenPv.options()),
    "multiboot2": lambda payload: Multiboot2().contribute(payload, Native(), Options2(boot_services=True)),
}


@dataclass(frozen=True)
class Hello:
    """hello at one width, ready to be built with other pieces."""

    payload: Payload
    folder: Path

    def prove(
        self,
        pieces: Callable[[tuple[Piece, ...]], tuple[Piece, ...]],
        profile: Profile | None = None,
        **kwargs: object,
    ) -> ProfileVerdict:
        """`pieces` makes of the chain another one; the image is tried as pvh@qemu, or in another profile."""
        profile = profile or Qemu()
        contribution = CONTRIBUTED[profile.target](self.payload)
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
        return prove(what, profile, **kwargs)  # type: ignore[arg-type]


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
    "a checksum that does not hold": ("BB-H002", change("flags", 16)),
    "no record where the register points": ("BB-H002", b"\xbe" + u32(0x3000000)),
    "another boot type in the record": ("BB-H004", store("boot_type", 3) + SEAL),
    "another boot type in the register": ("BB-H004", b"\xbf" + u32(3)),
    "another hypervisor type": ("BB-H005", store("hypervisor_type", 1) + SEAL),
    "another hypervisor leaf": ("BB-H005", change("hypervisor_leaf", 0x100) + SEAL),
    "another data pointer": ("BB-H006", change("data", 8) + SEAL),
    "a copy of data that is none": ("BB-H006", change("flags", 4) + SEAL),
    "the environment's structure written over": ("BB-H006", through("data", 8, 7)),
    "an initial domain that is none": ("BB-H007", change("flags", 2) + SEAL),
    "boot services out of nothing": ("BB-H007", change("flags", 1) + SEAL),
    "Secure Boot out of nothing": ("BB-H007", change("flags", 8) + SEAL),
    "a flag that has no meaning": ("BB-H007", change("flags", 16) + SEAL),
    "another RSDP": ("BB-H007", change("rsdp", 16) + SEAL),
    "an EFI system table out of nothing": ("BB-H007", store("efi_system_table", 0x1000) + SEAL),
    "another load offset": ("BB-H007", store("load_offset", 0x1000) + SEAL),
    "an EFI map out of nothing": ("BB-H007", store("efi_memmap", 0x1000) + SEAL),
    "a framebuffer out of nothing": ("BB-H007", store("framebuffer", 0x1000) + SEAL),
    "another environment map": ("BB-H007", change("env_memmap", 24) + SEAL),
    "no environment map": ("BB-H007", store("env_memmap", 0) + store("env_memmap_size", 0) + SEAL),
    "the environment's map written over": ("BB-H007", through("env_memmap", 16, 5)),
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
    "a command line that is no copy": ("BB-H011", store("cmdline", 0x11C0) + SEAL),  # where pvh@qemu has it
    "a map that is no copy": ("BB-H011", store("memmap", 0x5A8) + SEAL),
    "a module list that is no copy": ("BB-H011", store("modules", 0x21C0) + SEAL),
    "a post stub elsewhere": ("BB-H011", store("post_stub", 0x100000) + SEAL),
}

ZEROS = b"\x31\xc0\x31\xc9\x31\xd2\x6a\x02\x9d"  #: xor %eax, %ecx, %edx with itself; push $2; popf
NEXT_TABLE = b"\x48\x25" + u32(-0x1000) + b"\x48\x8b\x80"  #: and $~0xfff, %rax; mov displacement(%rax), %rax


def unmap(*entries: int) -> bytes:
    """Clear the last of these entries (offsets in page tables), each in the table that the last one names."""
    *path, last = entries
    walk = b"".join(NEXT_TABLE + u32(entry) for entry in path)
    clear = NEXT_TABLE[:6] + b"\x48\xc7\x80" + u32(last) + u32(0)  # movq $0, last(%rax)
    return b"\x0f\x20\xd8" + walk + clear + b"\x0f\x20\xd8\x0f\x22\xd8" + ZEROS  # %cr3 before and after


def table(limit: int, load: bytes) -> bytes:
    """push $0; push $limit; `load` from there: base 0; add $16, %rsp; push $2; popf."""
    return b"\x6a\x00\x68" + u32(limit) + load + b"\x48\x83\xc4\x10\x6a\x02\x9d"


SHORT_GDT = (  # sub $16, %rsp; sgdt (%rsp); movw $7, (%rsp); lgdt (%rsp); add $16, %rsp; push $2; popf
    b"\x48\x83\xec\x10\x0f\x01\x04\x24\x66\xc7\x04\x24\x07\x00\x0f\x01\x14\x24\x48\x83\xc4\x10\x6a\x02\x9d"
)
SET_LME = (  # mov $EFER, %ecx; rdmsr; or $LME, %eax; wrmsr
    b"\xb9" + u32(0xC0000080) + b"\x0f\x32\x0d" + u32(0x100) + b"\x0f\x30" + ZEROS
)
DEEP = 0x1E000  #: bytes below the stack where there is NOBITS of the stubs, but no 16 KiB


STATE_CASES = {
    (64, "interrupts on"): ("BB-H003", b"\xfb"),
    (64, "direction flag set"): ("BB-H003", b"\xfd"),
    (64, "carry flag set"): ("BB-H003", b"\xf9"),
    (64, "a register that is not 0"): ("BB-H003", b"\x41\xb7\x01"),  # mov $1, %r15b
    (64, "global pages on"): ("BB-H003", b"\xb0\xa0\x0f\x22\xe0\xb0\x00"),  # mov $0xa0, %al; mov %rax, %cr4
    (64, "an IDT"): ("BB-H003", table(0xFFF, b"\x0f\x01\x1c\x24")),  # lidt (%rsp)
    (64, "a GDT elsewhere"): ("BB-H003", table(0x1F, b"\x0f\x01\x14\x24")),  # lgdt (%rsp)
    (64, "a stack that is off by 8"): ("BB-H003", b"\x6a\x00"),
    (64, "a return address"): ("BB-H003", b"\x58\x6a\x01"),
    (64, "a stack elsewhere"): ("BB-H003", b"\xbc" + u32(0x3000010) + b"\x6a\x00"),
    (64, "a stack whose end is outside"): (  # sub $…, %rsp; push $2; popf; movq $0, (%rsp)
        "BB-H003",
        b"\x48\x81\xec" + u32(DEEP) + b"\x6a\x02\x9d\x48\xc7\x04\x24" + u32(0),
    ),
    (64, "a stack that is not mapped"): ("BB-H003", b"\x48\xbc" + struct.pack("<Q", 0x0000700000000008)),
    (64, "a GDT that ends before CS"): ("BB-H003", SHORT_GDT),
    (64, "no map of the second GiB"): ("BB-H003", unmap(0, 8)),
    (64, "no map of the fourth GiB"): ("BB-H003", unmap(0, 24)),
    (64, "no map of the stubs where they are linked"): ("BB-H003", unmap(0xFF8, 0xFF0, 8)),
    (32, "interrupts on"): ("BB-H003", b"\xfb"),
    (32, "a register that is not 0"): ("BB-H003", b"\xb3\x01"),  # mov $1, %bl
    (32, "large pages on"): ("BB-H003", b"\xb0\x10\x0f\x22\xe0\xb0\x00"),  # mov $0x10, %al; mov %eax, %cr4
    (32, "a return address"): ("BB-H003", b"\x58\x6a\x01"),
    (32, "arguments that are not the registers"): ("BB-H003", b"\x47"),  # inc %edi
    (32, "long mode enabled"): ("BB-H003", SET_LME),
    (32, "no stack"): ("BB-H001", b"\xbc" + u32(0xF0000000)),
}


DATA = b"\x48\x8b\x96" + u32(offset_of("data"))  #: mov data(%rsi), %rdx
PV_CASES = {  # in ring 3, behind the back
    "another boot type in the register": ("BB-H004", b"\xbf" + u32(1)),
    "the record's physical address": ("BB-H002", b"\x81\xe6" + u32(0x7FFFFFFF)),  # and $…, %esi
    "start_info for a record": ("BB-H002", DATA + b"\x48\x89\xd6" + ZEROS),  # mov %rdx, %rsi
    "start_info written over": ("BB-H006", DATA + b"\xc6\x02\0" + ZEROS),  # movb $0, (%rdx)
    "another boot type in the record": ("BB-H002", store("boot_type", 1)),  # which has a checksum
    "a register that is not 0": ("BB-H003", b"\x41\xb7\x01"),
    "direction flag set": ("BB-H003", b"\xfd"),
    "a return address": ("BB-H003", b"\x58\x6a\x01"),
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
    assert subject.prove(after_back(b"")).findings == ()


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
    verdict = subject.prove(after_back(code))
    check(verdict, rule)
    assert len(verdict.findings) == 1 or name == "a stack that is not mapped", verdict.findings
    assert subject.prove(after_back(code), disabled=frozenset({rule})).outcome is not Outcome.FAILED


@pytest.mark.parametrize("profile", [XenDomU(), XenDom0()], ids=lambda profile: profile.name)
@pytest.mark.parametrize("name", PV_CASES)
def test_a_changed_handover_in_ring_3_has_exactly_its_finding(
    name: str, profile: Profile, tmp_path: Path
) -> None:
    rule, code = PV_CASES[name]
    subject = hello(64, tmp_path)
    startup = subject.payload.startup
    shift = startup.vaddr - startup.paddr
    assert subject.prove(after_back(b"", shift), profile).findings == ()
    check(subject.prove(after_back(code, shift), profile), rule)


@pytest.mark.parametrize("width", [32, 64])
def test_a_byte_in_the_payloads_bss_is_a_finding(width: int, tmp_path: Path) -> None:
    subject = hello(width, tmp_path)
    end = max(s.paddr + s.memsz for s in subject.payload.elf.loads if s.memsz > s.filesz)
    check(subject.prove(after_front(b"\xc6\x05" + u32(end - 1) + b"\x01")), "BB-B021")


def test_every_rule_of_the_handover_has_its_case() -> None:
    seen = {rule for rule, _ in (*RECORD_CASES.values(), *STATE_CASES.values())}
    assert seen == {rule.id for rule in RULES}


@pytest.mark.parametrize("width", [32, 64])
def test_a_byte_of_the_payload_that_is_written_over_is_a_finding(width: int, tmp_path: Path) -> None:
    subject = hello(width, tmp_path)
    last = max(subject.payload.elf.loads, key=lambda s: s.filesz and s.paddr + s.filesz)
    code = b"\x80\x35" + u32(last.paddr + last.filesz - 1) + b"\x01"  # xorb $1, …
    check(subject.prove(after_front(code)), "BB-B020")
