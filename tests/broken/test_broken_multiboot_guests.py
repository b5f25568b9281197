"""What a Multiboot guest may not rely on: the smallest mutation of a guest that boots, and its findings."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from bootbuild.abi import multiboot
from bootbuild.api import Profile
from bootbuild.boot.prove import prove
from bootbuild.host import Host
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild_baremetal.environments import grub_bios, grub_efi, qemu
from bootbuild_pvh.environments import Qemu, QemuMicrovm
from tiny_guest import BASE, OWN_STACK, STACK_TOP, guest, subject, u32

MULTIBOOT_1, MULTIBOOT_2 = 0x1BADB002, 0xE85250D6
PROFILES: dict[str, Callable[[], Profile]] = {
    "multiboot1@grub": grub_bios.Multiboot1,
    "multiboot1@qemu": qemu.Multiboot1,
    "multiboot2@grub-bios": grub_bios.Multiboot2,
    "multiboot2@grub-efi64": grub_efi.Multiboot2,
    "pvh@qemu": Qemu,
    "pvh@qemu-microvm": QemuMicrovm,
}
MULTIBOOT = [name for name in PROFILES if name.startswith("multiboot")]
RAM_TOP = 128 << 20  #: of a PC with a BIOS, where no size is asked for


def header_2(*tags: bytes) -> bytes:
    """A Multiboot2 header of these tags, each padded to 8 bytes, and the one that ends them."""
    body = b"".join(tag + bytes(-len(tag) % 8) for tag in (*tags, struct.pack("<HHI", 0, 0, 8)))
    size = 16 + len(body)
    return struct.pack("<4I", MULTIBOOT_2, 0, size, -(MULTIBOOT_2 + size) & 0xFFFFFFFF) + body


HEADER_2 = header_2()
HEADER_1 = struct.pack("<3I", MULTIBOOT_1, 3, -(MULTIBOOT_1 + 3) & 0xFFFFFFFF)
BOTH = HEADER_2 + HEADER_1


def branch(test: bytes, taken: bytes = b"\x90" * 4) -> bytes:
    """Test; jz over `taken`."""
    return test + b"\x74" + bytes([len(taken)]) + taken


def unless(test: bytes, taken: bytes = b"\xfa\xf4") -> bytes:
    """Test; jnz over `taken`, by default cli; hlt."""
    return test + b"\x75" + bytes([len(taken)]) + taken


def clear(address: int) -> bytes:
    """mov %ebx, %esi; mov $address, %edi; mov $0x1000, %ecx; xor %eax, %eax; rep stosb."""
    return b"\x89\xde\xbf" + u32(address) + b"\xb9" + u32(0x1000) + b"\x31\xc0\xf3\xaa"


UPPER = b"\x8b\x43\x08\xc1\xe0\x0a\x05" + u32(
    1 << 20
)  # mov 8(%ebx), %eax; shl $10, %eax; add $1 MiB, %eax: the end of the memory that mem_upper tells of


def read_control(number: int, mask: int) -> bytes:
    """mov %crN, %eax; test $mask, %eax."""
    return b"\x0f\x20" + bytes([0xC0 | number << 3]) + b"\xa9" + u32(mask)


READ_EFER = b"\xb9" + u32(0xC0000080) + b"\x0f\x32\xa9" + u32(0x800)  # rdmsr; test $NXE, %eax


@dataclass(frozen=True)
class Case:
    """A guest, the rule that it breaks, and the profiles in which that is seen; elsewhere it boots."""

    data: bytes = field(repr=False)
    rule: str
    seen: Sequence[str]
    protocols: tuple[str, ...]  #: for which it has a header


def case(
    rule: str,
    seen: Sequence[str] = (),
    *,
    first: bytes = b"",
    later: bytes = b"",
    headers: bytes = BOTH,
) -> Case:
    """A case whose guest differs from the good one in one place; by default it is seen everywhere."""
    protocols = ("multiboot1",) * (HEADER_1 in headers) + ("multiboot2",) * (HEADER_2 in headers)
    data = guest(first=first, later=later, bits=32, headers=headers)
    return Case(data, rule, seen or MULTIBOOT, protocols)


def proved(data: bytes, name: str) -> ProfileVerdict:
    """The verdict of a profile whose loader model is asked first, as in every boot."""
    profile = PROFILES[name]()
    return prove(subject(data, cmdline=b"quiet"), profile, Host.discover().loader(profile.loader))


REGISTERS = {  # test %reg, %reg
    "ECX": b"\x85\xc9",
    "EDX": b"\x85\xd2",
    "ESI": b"\x85\xf6",
    "EDI": b"\x85\xff",
    "EBP": b"\x85\xed",
}
ZERO_IN_QEMU = ("ESI", "EBP")
GRUB = [name for name in MULTIBOOT if name != "multiboot1@qemu"]
BIOS = [name for name in MULTIBOOT if name != "multiboot2@grub-efi64"]
EFI = ["multiboot2@grub-efi64"]

CASES = {
    # -- what the specifications leave undefined
    **{
        f"takes {name} for zero": case("BB-U001", [] if name in ZERO_IN_QEMU else GRUB, first=branch(test))
        for name, test in REGISTERS.items()
    },
    "uses the loader's stack": case("BB-U002", first=b"\x50\x58"),
    "reloads DS from GRUB's GDT": case("BB-U003", first=b"\x66\xb8\x18\x00\x8e\xd8"),
    "compares the DS selector": case("BB-U004", first=branch(b"\x8c\xd8\xa8\x08")),
    "takes the parity flag as it is": case("BB-U005", first=OWN_STACK + branch(b"\x9c\x58\xa8\x04")),
    "takes CR0.NE as it is": case("BB-B050", first=branch(read_control(0, 0x20))),
    "takes CR4.PSE as it is": case("BB-B050", first=branch(read_control(4, 0x10))),
    "takes EFER.NXE as it is": case("BB-B050", first=branch(READ_EFER)),
    "takes free memory for zero": case("BB-U006", later=branch(b"\x83\x3d" + u32(0x3000000) + b"\x00")),
    # -- memory that nobody promised
    "writes behind what mem_upper tells of": case(
        "BB-B003", ["multiboot1@grub", "multiboot1@qemu"], later=UPPER + b"\xc6\x00\x01", headers=HEADER_1
    ),
    "writes behind a PC's memory": case("BB-B002", BIOS, later=b"\xa3" + u32(RAM_TOP)),
    "writes to what UEFI keeps at 8 MiB": case("BB-B003", EFI, later=b"\xa3" + u32(0x806000)),
    # -- memory right below and behind the kernel, used before the information was read
    "clears the information": case(
        "BB-B005", ["multiboot2@grub-bios"], later=clear(BASE) + unless(b"\x83\x3e\x00"), headers=HEADER_2
    ),
    "clears the command line": case(
        "BB-B005",
        ["multiboot1@qemu"],
        later=clear(STACK_TOP) + b"\x8b\x46\x10" + unless(b"\x80\x38\x00"),
        headers=HEADER_1,
    ),
}


@pytest.mark.parametrize("profile", MULTIBOOT)
def test_the_unmutated_guest_boots(profile: str) -> None:
    verdict = proved(guest(bits=32, headers=BOTH), profile)
    assert [f.message for f in verdict.findings] == []
    assert verdict.outcome is Outcome.BOOTED
    assert len({run.digest for run in verdict.runs}) == 1
    assert len(verdict.runs) == 3


@pytest.mark.parametrize("name", CASES)
def test_each_mutation_breaks_exactly_its_rule_where_that_can_be_seen(name: str) -> None:
    one = CASES[name]
    profiles = [profile for profile in MULTIBOOT if profile[:10] in one.protocols]
    found = {
        profile: sorted({finding.rule for finding in proved(one.data, profile).findings})
        for profile in profiles
    }
    assert found == {profile: [one.rule] if profile in one.seen else [] for profile in profiles}


OVERWRITTEN = {"clears the information": BASE, "clears the command line": STACK_TOP}


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_what_was_overwritten_is_said(name: str) -> None:
    (profile,) = CASES[name].seen
    (finding,) = proved(CASES[name].data, profile).findings
    (line, *_) = [line for line in finding.lines if line.startswith("overwritten: ")]
    assert line.startswith(
        f"overwritten: {OVERWRITTEN[name]:#x}, of what the environment handed over at 0x10"
    )


def test_eax_does_not_tell_multiboot_from_pvh() -> None:
    """One entry for both, as Solo5 had it; under microvm qboot leaves Multiboot's value in EAX for PVH.

    QEMU starts nothing as PVH that has a header of Multiboot 1, so there the file has none.
    """
    has_map = unless(b"\x83\x7b\x2c\x00")  # cmpl $0, mmap_length
    trusts = b"\x3d" + u32(multiboot.MAGIC) + b"\x75" + bytes([len(has_map)]) + has_map
    data = {
        name: guest(first=trusts, bits=32, headers=BOTH if name in MULTIBOOT else HEADER_2)
        for name in PROFILES
    }
    found = {name: [finding.rule for finding in proved(data[name], name).findings] for name in PROFILES}
    boots: dict[str, list[str]] = {name: [] for name in MULTIBOOT}
    assert found == boots | {"pvh@qemu": ["BB-U001"], "pvh@qemu-microvm": ["BB-B005"]}
