"""Linux entered by our stubs: each way of spoiling what they hand over is exactly one finding.

A tiny kernel stands where Linux would.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bootbuild.abi import boot_params as bp
from bootbuild.abi.handover import LAYOUT
from bootbuild.api import ElfImage, Framebuffer, GuestView, Scene
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import open_payload
from bootbuild.model.content import FileContent
from bootbuild.model.machine import Filling, MapEntry, Offer
from bootbuild.model.payload import Payload
from bootbuild.model.span import Span
from bootbuild.model.verdict import Outcome
from bootbuild_linux.guests import Linux
from bootbuild_linux.judge import e820_table
from bootbuild_linux.rules import RULES
from bootbuild_pvh.environments import Firecracker, Qemu
from bootbuild_pvh.targets import Pvh
from own_start_info import OwnStartInfo
from sabotage import CLEAN, CMDLINE, in_record, kernel, put, rules, sabotaged
from tiny_guest import PAGE, STARTUP, u32

WIDTHS = (64, 32)
SCREEN_TYPE, SCREEN_WIDTH, SCREEN_SIZE, SCREEN_RESERVED = 0x0F, 0x12, 0x1C, 0x2C  #: in screen_info


def store(offset: int, value: int, size: int = 4) -> bytes:
    """Write a field of boot_params: mov{b,w,l} $value, offset(%esi)."""
    head = {1: b"\xc6", 2: b"\x66\xc7", 4: b"\xc7"}[size]
    return head + b"\x86" + u32(offset) + value.to_bytes(size, "little")


def node(code: bytes) -> bytes:
    """`code` with EAX, RAX = the first node of setup_data: mov setup_data(%rsi), %eax. Leaves all clean."""
    return b"\x8b\x86" + u32(bp.SETUP_DATA) + code + CLEAN


def field(name: str, value: int) -> bytes:
    """Write a field of the record in the node, and mend the checksum, so that only the field is wrong."""
    offset = 16
    for known, code in LAYOUT:
        if known == name:
            break
        offset += struct.calcsize(code)
    seal = (
        b"\xc7\x40\x1c" + u32(0)  # movl $0, 16+checksum(%rax)
        + b"\x31\xd2\xb9" + u32(0xA8 // 4)  # xor %edx,%edx; mov $words,%ecx
        + b"\x03\x54\x88\x0c\xff\xc9\x75\xf8"  # 1: add 12(%rax,%rcx,4),%edx; dec %ecx; jnz 1b
        + b"\xf7\xda\x89\x50\x1c"  # neg %edx; mov %edx, 16+checksum(%rax)
    )  # fmt: skip
    return node(b"\xc7\x80" + u32(offset) + u32(value) + seal)  # movl $value, offset(%rax)


def subject(
    folder: Path,
    sabotage: bytes = b"",
    width: int = 64,
    cmdline: bytes = CMDLINE,
    modules: int = 1,
    between: bytes = b"",
    bss: Span | None = None,
) -> Subject:
    """The kernel with a PVH entry; at PAGE there is a second node of our type."""
    second = struct.pack("<QII", 0, bp.SETUP_BOOTBUILD, 0)
    payload = kernel(Linux(), sabotage, width, second, bss)
    return sabotaged(folder, payload, Linux(), cmdline=cmdline, modules=modules, between=between)


CASES: dict[str, tuple[str, bytes]] = {
    "boot_params nowhere": ("BB-H020", b"\xbe" + u32(0x3FFFF000)),
    "another command line": ("BB-H021", store(bp.CMD_LINE_PTR, STARTUP)),
    "another ramdisk": ("BB-H022", store(bp.RAMDISK_IMAGE, STARTUP)),
    "a ramdisk above 4 GiB": ("BB-H022", store(bp.EXT_RAMDISK_IMAGE, 1)),
    "no ISA hole": ("BB-H023", store(bp.E820_ENTRIES, 7, 1)),
    "RAM that is called reserved": ("BB-H023", store(bp.E820_TABLE + 16, 2)),
    "no RSDP": ("BB-H024", store(bp.ACPI_RSDP_ADDR, 0)),
    "no setup_data": ("BB-H025", store(bp.SETUP_DATA, 0)),
    "a node of another type": ("BB-H025", node(b"\xc7\x40\x08" + u32(2))),
    "two nodes of our type": ("BB-H025", node(b"\xc7\x00" + u32(PAGE))),
    "a node that is too long": ("BB-H025", node(b"\xc7\x40\x0c" + u32(0xAC))),
    "a record whose checksum does not hold": ("BB-H025", node(b"\xff\x40\x20")),
    "another boot type": ("BB-H025", field("boot_type", 3)),
    "another hypervisor type": ("BB-H025", field("hypervisor_type", 1)),
    "another data pointer": ("BB-H025", field("data", 0x1234)),
    "a command line in the record": ("BB-H025", field("cmdline", 0x1234)),
    "a post stub in the record": ("BB-H025", field("post_stub", 0x1234)),
    "EFI out of nothing": ("BB-H029", store(bp.EFI_INFO, 0x34364C45)),
    "a screen out of nothing": ("BB-H030", store(SCREEN_TYPE, 0x70, 1)),
    "Secure Boot out of nothing": ("BB-H031", store(bp.SECURE_BOOT, 3, 1)),
    "a set sentinel": ("BB-H027", store(bp.SENTINEL, 0xFF, 1)),
    "no boot flag": ("BB-H027", store(bp.BOOT_FLAG_AT, 0, 2)),
    "no HdrS": ("BB-H027", store(bp.HDR_MAGIC, 0)),
    "an old protocol": ("BB-H027", store(bp.VERSION, 0x020B, 2)),
    "no loader": ("BB-H027", store(bp.TYPE_OF_LOADER, 0, 1)),
}  # fmt: skip
#: The pair cannot be found where the list cannot be followed.
LISTS = {
    "setup_data where there is no memory": store(bp.SETUP_DATA, 0xF0000000),
    "a node that runs out of memory": node(b"\xc7\x40\x0c" + u32(0xF0000000)),
    "a list that does not end": node(b"\x89\x00"),
}
STATES: dict[str, tuple[tuple[int, ...], bytes]] = {
    "interrupts on": (WIDTHS, b"\xfb"),
    "another data segment": (WIDTHS, b"\x8e\xc0"),  # mov %eax, %es
    "EBX": ((32,), b"\xbb" + u32(1)),
    "EBP": ((32,), b"\xbd" + u32(1)),
    "EDI": ((32,), b"\xbf" + u32(1)),
    "boot_params mapped to other memory": ((64,), b"\x0f\x20\xd8" + 2 * (  # mov %cr3, %rax; twice:
        b"\x48\x8b\x00\x48\x25" + u32(0xFFFFF000)  # mov (%rax), %rax; and $~0xfff, %rax
    ) + b"\x81\x40\x08" + u32(2 << 20)  # addl $2 MiB, 8(%rax): what is at 2 MiB is that at 4 MiB
      + b"\x0f\x20\xd8\x0f\x22\xd8" + CLEAN),  # mov %cr3, %rax; mov %rax, %cr3
}  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_what_the_stubs_hand_over_boots(width: int, tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path, width=width), Qemu())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["cmdline"] == CMDLINE.decode()
    assert verdict.handover["record"] == {"boot_type": "pvh", "hypervisor_type": "tcg", "data": "0x21e0"}
    assert verdict.handover["e820"][-1] == {"address": "0xa0000", "size": "0x60000", "type": 2}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_field_is_exactly_one_finding(name: str, tmp_path: Path) -> None:
    rule, sabotage = CASES[name]
    what = subject(tmp_path, sabotage)
    verdict = prove(what, Qemu())
    assert (rules(verdict), verdict.outcome) == ([rule], Outcome.FAILED), verdict.findings
    assert prove(what, Qemu(), disabled=frozenset({rule})).findings == ()


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_cannot_be_followed_is_one_finding(name: str, tmp_path: Path) -> None:
    what = subject(tmp_path, LISTS[name])
    assert rules(prove(what, Qemu())) == ["BB-H028"]
    assert prove(what, Qemu(), disabled=frozenset({"BB-H028"})).findings == ()


@pytest.mark.parametrize(
    ("name", "width"), [(name, width) for name, (widths, _) in STATES.items() for width in widths]
)
def test_a_wrong_state_at_the_entry_is_one_finding(name: str, width: int, tmp_path: Path) -> None:
    what = subject(tmp_path, STATES[name][1], width)
    assert {*rules(prove(what, Qemu()))} == {"BB-H026"}
    assert prove(what, Qemu(), disabled=frozenset({"BB-H026"})).findings == ()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("change", "said"),
    [(b"\xff\x40\x04", "ramdisk at 0x1"), (b"\xff\x40\x0c", "ramdisk has 4294967321 bytes")],
    ids=["address", "size"],
)
def test_upper_halves_of_a_ramdisk_are_passed_on(
    change: bytes, said: str, width: int, tmp_path: Path
) -> None:
    """The front can reach no such module; another target's may: incl of the upper half of a field."""
    what = subject(tmp_path, width=width, between=b"\x8b\x46\x30" + change)  # mov modules(%esi), %eax
    verdict = prove(what, Qemu())
    assert rules(verdict) == ["BB-H022"]
    assert verdict.findings[0].message.startswith(said)


SCREEN = Framebuffer(0xFD000000, 1024, 768, 4096, 32, (16, 8, 8, 8, 0, 8))
SCREEN_AT, SYSTEM_TABLE, EFI_MAP = 0x5000, 0x5100, Span(0x5200, 96)


class Efi(Qemu):
    """pvh@qemu, as if there were EFI, and a screen: what another front's record has."""

    def __init__(self, table: int = 120, map_size: int = EFI_MAP.size) -> None:
        self.table, self.map_size = table, map_size

    def scene(
        self, image: ElfImage, offer: Offer, filling: Filling, only: frozenset[str] | None = None
    ) -> Scene:
        scene = super().scene(image, offer, filling, only)
        given = replace(scene.given, framebuffer=SCREEN)
        if self.table:
            given = replace(given, efi_system_table=SYSTEM_TABLE)
        if self.map_size:
            form = {"efi_memmap_descriptor_size": 48, "efi_memmap_descriptor_version": 1}
            given = replace(given, efi_memmap=EFI_MAP, **form)  # type: ignore[arg-type]
        return replace(scene, given=given)

    def told(self) -> bytes:
        """Code behind the front that puts all that into the record."""
        pixels = struct.pack("<QQ4I6B2x", SCREEN.address, SCREEN.size, 1024, 768, 4096, 32, *SCREEN.colours)
        code = put(SCREEN_AT, pixels) + in_record(0x80, SCREEN_AT)
        if self.table:
            code += put(SYSTEM_TABLE + 12, u32(self.table)) + in_record(0x60, SYSTEM_TABLE)
        if self.map_size:
            words = {0x68: EFI_MAP.start, 0x70: EFI_MAP.size, 0x78: 48, 0x7C: 1}
            code += b"".join(in_record(offset, value) for offset, value in words.items())
        return code


SHOWN = {"address": "0xfd000000", "width": 1024, "height": 768, "pitch": 4096, "bits_per_pixel": 32}
FIRMWARE: dict[str, tuple[Efi, str, str | None]] = {
    "EFI": (Efi(), "0x70", "EL64"),
    "EFI of 32 bits": (Efi(table=72), "0x70", "EL32"),
    "EFI without its map": (Efi(map_size=0), "0x70", None),
    "none": (Efi(table=0, map_size=0), "0x23", None),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FIRMWARE)
def test_screen_and_efi_are_passed_on(name: str, width: int, tmp_path: Path) -> None:
    profile, kind, signature = FIRMWARE[name]
    verdict = prove(subject(tmp_path, width=width, between=profile.told()), profile)
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["screen"] == {"type": kind, **SHOWN}
    assert verdict.handover["efi"] == signature


EFI_CASES: dict[str, tuple[str, bytes]] = {
    "EFI that is not told": ("BB-H029", store(bp.EFI_INFO, 0)),
    "another system table": ("BB-H029", store(bp.EFI_INFO + 4, 0x1000)),
    "another EFI map": ("BB-H029", store(bp.EFI_INFO + 0x10, 0x1000)),
    "descriptors of 40 bytes": ("BB-H029", store(bp.EFI_INFO + 8, 40)),
    "no screen": ("BB-H030", store(SCREEN_TYPE, 1, 1)),
    "a screen of VESA's sort": ("BB-H030", store(SCREEN_TYPE, 0x23, 1)),
    "a narrower screen": ("BB-H030", store(SCREEN_WIDTH, 640, 2)),
    "a screen of one page": ("BB-H030", store(SCREEN_SIZE, 4096)),
    "pixels of 24 bits": ("BB-H030", store(SCREEN_RESERVED, 0, 1)),
}


@pytest.mark.parametrize("name", EFI_CASES)
def test_wrong_screen_or_efi_is_exactly_one_finding(name: str, tmp_path: Path) -> None:
    rule, sabotage = EFI_CASES[name]
    what, profile = subject(tmp_path, sabotage, between=Efi().told()), Efi()
    assert rules(prove(what, profile)) == [rule]
    assert prove(what, profile, disabled=frozenset({rule})).findings == ()


def test_every_rule_has_its_case() -> None:
    elsewhere = {"BB-H026", "BB-H028", "BB-B091"}  # the last in tests/efi/test_levels.py
    cases = {rule for rule, _ in CASES.values()} | elsewhere
    assert cases == {rule.id for rule in RULES}


def test_a_kernel_that_is_entered_where_it_is_linked_is_a_finding(hello64: Path, tmp_path: Path) -> None:
    """Linux is entered at its physical address: hello is linked elsewhere, the stub told to go there."""
    opened = open_payload(hello64)
    startup = find_startup(opened.elf, "startup_64", 64, Linux())
    assert startup.address == startup.paddr != startup.vaddr
    payload = Payload(opened.elf, str(hello64), opened.format, opened.digest, "linux", startup)
    holder, path = container("elf"), tmp_path / "linked.elf"
    found = []
    for contributed in (startup, replace(startup, entered_at="linked")):
        contribution = replace(Pvh().contribute(payload, Linux(), None), startup=contributed)
        layout = holder.lay_out(payload, [contribution])
        holder.write(payload, layout, path)
        image = read_elf(FileContent(path), "linked.elf")
        what = replace(subject(tmp_path), image=image, startup=startup, stub=layout.stub, code=b"")
        found.append(rules(prove(what, Qemu())))
    assert found == [[], ["BB-H026"]]


MAPS = {
    "128 entries and the hole": (127, True),
    "129 entries, of which one is the hole": (128, True),
    "129 entries": (129, False),
    "as many as a front passes on": (1024, True),
}


def many(count: int, hole: bool) -> tuple[MapEntry, ...]:
    """A map of `count` entries; without `hole`, the map itself has what is between 640 KiB and 1 MiB."""
    low = (MapEntry(0, 0x9F000, 1), MapEntry(1 << 20, 0x7E00000, 1))
    own = () if hole else (MapEntry(0x9F000, 0x31000, 2), MapEntry(0xD0000, 0x30000, 4))
    rest = count - len(low) - len(own)
    return (*low, *own, *(MapEntry(0x10000000 + (rest - i) * 8192, 4096, 2) for i in range(rest)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_any_length_arrives_sorted_and_whole(name: str, width: int, tmp_path: Path) -> None:
    given = many(*MAPS[name])
    patient = replace(
        subject(tmp_path, width=width), timeout=300.0
    )  # seconds: sorting takes millions of steps
    verdict = prove(patient, OwnStartInfo(memory_map=given))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    table = [(int(e["address"], 16), int(e["size"], 16), e["type"]) for e in verdict.handover["e820"]]
    ours = [(0xA0000, 0x60000, 2)] if MAPS[name][1] else []
    assert table == sorted((e.address, e.size, e.type) for e in given) + ours


def test_an_entry_that_is_lost_from_the_extension_is_a_finding(tmp_path: Path) -> None:
    sabotage = node(b"\x8b\x00\x83\x68\x0c\x14")  # mov (%rax), %eax; subl $20, 12(%rax)
    verdict = prove(subject(tmp_path, sabotage), OwnStartInfo(memory_map=many(200, True)))
    assert [f.message for f in verdict.findings] == ["e820 has 200 entries, not 201"]
    assert rules(verdict) == ["BB-H023"]


@pytest.mark.parametrize(
    ("hole", "entries"),
    [
        (True, []),
        (True, [MapEntry(0xA0000, 0x60000, 1)]),
        (True, [MapEntry(0xF0000, 0x10000, 2)]),
        (True, [MapEntry(0xA0000, 0x5FFFF, 2)]),
        (False, [MapEntry(0xA0000, 0x60000, 2)]),
        (False, [MapEntry(0x90000, 0x20000, 2), MapEntry(0xB0000, 0x100000, 3)]),
    ],
    ids=["nothing there", "RAM", "a part", "all but a byte", "all of it", "all of it in two"],
)
def test_the_isa_hole_is_added_where_the_map_leaves_it_open(
    hole: bool, entries: list[MapEntry], tmp_path: Path
) -> None:
    given = (MapEntry(0, 0x80000, 1), *entries, MapEntry(0x200000, 0x7E00000, 1))
    verdict = prove(subject(tmp_path), OwnStartInfo(memory_map=given))
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    assert verdict.handover is not None
    assert len(verdict.handover["e820"]) == len(given) + hole


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("cmdline", "modules", "reason"),
    [
        (CMDLINE, 2, "it takes one ramdisk, and more modules were given"),
        (b"x" * 2048, 0, "its command line has more than 2047 bytes"),
    ],
    ids=["two modules", "a command line that Linux would cut"],
)
def test_what_linux_cannot_take_is_said_and_not_lost(
    width: int, cmdline: bytes, modules: int, reason: str, tmp_path: Path
) -> None:
    what = subject(tmp_path, width=width, cmdline=cmdline, modules=min(modules, 1))
    verdict = prove(what, OwnStartInfo(modules=modules))
    assert rules(verdict) == ["BB-B005"]
    assert f"console: bootbuild: cannot start Linux: {reason}" in verdict.findings[0].lines


def test_the_longest_command_line_and_none_at_all_arrive(tmp_path: Path) -> None:
    for cmdline in (b"x" * 2047, b""):
        verdict = prove(subject(tmp_path, cmdline=cmdline, modules=0), Qemu())
        assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)


@pytest.mark.parametrize("there", [True, False])
def test_an_extension_of_any_size_is_read_in_bounds(there: bool) -> None:
    class View:
        asked = 0

        def read_physical(self, _address: int, size: int) -> bytes:
            View.asked = size
            if not there:
                raise LookupError
            return bytes(size)

    node = bp.SetupData(bp.SETUP_E820_EXT, 0x9000, 3 << 30)
    table = e820_table(cast("GuestView", View()), bp.parse(bytes(4096)), [node])
    assert View.asked == 4096 * 20
    assert len(table) == (4096 if there else 0)


LOW = Span(0x5000, 0x5000)  #: in it Firecracker's start_info and memory map


def test_data_that_linux_would_not_keep_is_absent(tmp_path: Path) -> None:
    """start_info lay in .bss and was copied into the stub range, which Linux does not reserve."""
    verdict = prove(subject(tmp_path, bss=LOW), Firecracker())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None and verdict.handover["record"]["data"] == "0x0"
    verdict = prove(subject(tmp_path, field("data", 0x6000), bss=LOW), Firecracker())
    assert [f.message for f in verdict.findings] == ["data is 0x6000, a copy that the guest does not keep"]
    assert rules(verdict) == ["BB-H025"]
