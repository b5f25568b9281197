"""A Multiboot2 kernel entered by our stubs: each way of spoiling their handover is exactly one finding."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.abi import multiboot2 as mb2
from bootbuild.abi.handover import MAGIC, SIZE
from bootbuild.abi.multiboot2 import Multiboot2Info, Tag, TagType
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.model.machine import Filling, Given, MapEntry
from bootbuild.model.verdict import Outcome
from bootbuild_baremetal.guest_rules import RULES
from bootbuild_baremetal.guests import Multiboot2
from bootbuild_baremetal.judge import kib
from bootbuild_pvh.environments import Firecracker, Qemu
from own_start_info import OwnStartInfo
from sabotage import CMDLINE, INITRD, field_of_record, in_record, kernel, put, rules, sabotaged, store
from tiny_guest import ENTRY, PAGE, STARTUP, guest, u32
from tiny_guest import subject as native_subject

RSDP = 20  #: bytes of its copy: pvh@qemu's is of revision 0


def subject(
    folder: Path,
    sabotage: bytes = b"",
    cmdline: bytes = CMDLINE,
    modules: int = 1,
    between: bytes = b"",
    header: bytes = b"",
) -> Subject:
    payload = kernel(Multiboot2(), sabotage, 32, header)
    return sabotaged(folder, payload, Multiboot2(), cmdline=cmdline, modules=modules, between=between)


def tags_for(given: Given) -> list[Tag]:
    """What the back makes in pvh@qemu of CMDLINE and INITRD; of RSDP and record only the size is right."""
    (initrd,) = given.modules
    return [
        mb2.cmdline_tag(CMDLINE),
        mb2.loader_name_tag(b"bootbuild"),
        mb2.module_tag(initrd.span.start, initrd.span.end),
        mb2.memory_tag(*kib(given.memory_map)),
        mb2.memory_map_tag(given.memory_map),
        Tag(TagType.ACPI_OLD, bytes(RSDP)),
        Tag(MAGIC, bytes(SIZE)),
    ]


def given_by_qemu() -> Given:
    what = native_subject(guest(), cmdline=CMDLINE, modules=(INITRD,))
    return Qemu().scene(what.image, what.offer, Filling.EXACT).given


INFORMATION = Multiboot2Info(tuple(tags_for(given_by_qemu())))


def body(kind: int, offset: int = 0) -> int:
    """Where a byte of a tag's body is in the information."""
    return INFORMATION.offset(kind) + offset


def head(kind: int) -> int:
    return body(kind) - mb2.TAG_SIZE


PAIR = body(MAGIC)
MAP_SIZE = head(TagType.ACPI_OLD) - head(TagType.MEMORY_MAP)

CASES: dict[str, tuple[str, bytes]] = {
    "another magic": ("BB-H040", b"\xb8" + u32(0x2BADB002)),  # mov $…, %eax
    "information that begins at an odd address": ("BB-H040", b"\x43\x6a\x02\x9d"),  # inc %ebx; flags again
    "information nowhere": ("BB-H040", b"\xbb" + u32(0x3FFFF000)),
    "information without an end": ("BB-H040", store(0, 16)),
    "a tag that is shorter than its head": ("BB-H040", store(8 + 4, 4)),
    "a map whose entries are too short": ("BB-H040", store(body(TagType.MEMORY_MAP), 20)),
    "another command line": ("BB-H041", store(body(TagType.CMDLINE), ord("C"), 1)),
    "a module that begins elsewhere": ("BB-H042", store(body(TagType.MODULE), STARTUP)),
    "a module with other words": ("BB-H042", store(body(TagType.MODULE, 8), ord("x"), 1)),
    "RAM that is called reserved": ("BB-H043", store(body(TagType.MEMORY_MAP, 8 + 16), 2)),
    "a map whose entries are one too few": ("BB-H043", store(head(TagType.MEMORY_MAP) + 4, MAP_SIZE - 1)),
    "less memory": ("BB-H043", store(body(TagType.MEMORY), 1)),
    "a spoilt RSDP": ("BB-H044", store(body(TagType.ACPI_OLD), 0, 1)),
    "an old RSDP as a new one": ("BB-H044", store(head(TagType.ACPI_OLD), TagType.ACPI_NEW)),
    "no pair": ("BB-H045", store(head(MAGIC), TagType.END)),
    "a record whose checksum does not hold": ("BB-H045", store(PAIR + 0xC, 0)),
    "another boot type": ("BB-H045", field_of_record(PAIR, "boot_type", 5)),
    "another hypervisor": ("BB-H045", field_of_record(PAIR, "hypervisor_type", 1)),
    "other data": ("BB-H045", field_of_record(PAIR, "data", 0x9000)),
    "another RSDP in the record": ("BB-H045", field_of_record(PAIR, "rsdp", 0xE0000)),
    "a command line that the kernel does not keep": ("BB-H045", field_of_record(PAIR, "cmdline", PAGE)),
    "a tag of no type that is known": ("BB-H047", store(head(TagType.LOADER_NAME), 0x99)),
    "a tag that is there twice": ("BB-H047", store(head(TagType.LOADER_NAME), TagType.CMDLINE)),
    "EFI where there is none": ("BB-H047", store(head(TagType.LOADER_NAME), TagType.EFI64)),
    "a load base above the kernel": ("BB-H047", store(head(TagType.LOADER_NAME), TagType.LOAD_BASE)),
}
#: What is said of a wrong tag, beside what is missing then: the loader's name.
TOLD = {
    "a tag of no type that is known": "tag 0x99 tells of what the environment did not give",
    "a tag that is there twice": "tag 0x1 is there 2 times",
    "EFI where there is none": "EFI system table is 0x646c6975",
    "a load base above the kernel": "the load base 0x",
}
STATES = {
    "interrupts on": b"\xfb",
    "the direction flag": b"\xfd",
    "ECX": b"\xb9" + u32(1),
    "ESI": b"\xbe" + u32(1),
    "no stack": b"\xbc" + u32(0x1000),
    "CR0.NE": b"\x0f\x20\xc1\x83\xc9\x20\x0f\x22\xc1\x31\xc9\x6a\x02\x9d",  # %cr0 |= 0x20 by %ecx
    "a table of the kernel's": b"\x0f\x01\x15" + u32(PAGE),  # lgdt of zeros: limit 0
}


def test_what_the_stubs_hand_over_boots(tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path), Qemu())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["cmdline"] == CMDLINE.decode()
    assert verdict.handover["boot_loader_name"] == "bootbuild"
    assert verdict.handover["record"] == {"boot_type": "pvh", "hypervisor_type": "tcg", "data": "0x21e0"}
    for found, expected in zip(verdict.handover["tags"], tags_for(given_by_qemu()), strict=True):
        assert found["type"] == expected.type
        body = expected.body[8:] if expected.type == TagType.MODULE else expected.body  # behind the addresses
        if any(body):
            assert found["body"] == body[:64].hex()


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_field_is_exactly_one_finding(name: str, tmp_path: Path) -> None:
    rule, sabotage = CASES[name]
    what = subject(tmp_path, sabotage)
    verdict = prove(what, Qemu())
    assert ({*rules(verdict)}, verdict.outcome) == ({rule}, Outcome.FAILED), verdict.findings
    assert prove(what, Qemu(), disabled=frozenset({rule})).findings == ()


@pytest.mark.parametrize("name", TOLD)
def test_a_wrong_tag_is_told_in_words_of_its_own(name: str, tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path, CASES[name][1]), Qemu())
    said = [finding.message for finding in verdict.findings]
    assert [text for text in said if TOLD[name] in text], said


@pytest.mark.parametrize("name", STATES)
def test_a_wrong_state_at_the_entry_is_one_finding(name: str, tmp_path: Path) -> None:
    what = subject(tmp_path, STATES[name])
    verdict = prove(what, Qemu())
    assert {*rules(verdict)} == {"BB-H046"}, verdict.findings
    assert prove(what, Qemu(), disabled=frozenset({"BB-H046"})).findings == ()


def test_every_rule_has_its_case() -> None:
    cases = {rule for rule, _ in CASES.values()} | {"BB-H046"}
    assert cases | {"BB-H048"} == {rule.id for rule in RULES}  # that one: test_multiboot2_demands


def long_map(count: int) -> tuple[MapEntry, ...]:
    low = (MapEntry(0, 0x9F000, 1), MapEntry(1 << 20, 0x7E00000, 1))
    return (*low, *(MapEntry(0x10000000 + (count - i) * 8192, 4096, 2) for i in range(count - len(low))))


def test_as_long_a_map_as_a_front_passes_on_arrives_sorted_and_whole(tmp_path: Path) -> None:
    given = long_map(1024)
    patient = replace(subject(tmp_path), timeout=300.0)  # seconds: sorting it is millions of instructions
    verdict = prove(patient, OwnStartInfo(memory_map=given))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    found = [(int(e["address"], 16), int(e["size"], 16), e["type"]) for e in verdict.handover["memory_map"]]
    assert found == sorted((e.address, e.size, e.type) for e in given)


def test_a_module_that_is_listed_more_than_once_is_there_as_often(tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path), OwnStartInfo(modules=32))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None and len(verdict.handover["modules"]) == 32


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (((0, 0x9F000, 1), (1 << 20, 0x7F00000, 1)), (636, 0x7F00000 >> 10)),
        (((0, 0xC0000, 1), (1 << 20, 0x7F00000, 1)), (640, 0x7F00000 >> 10)),
        (((0, 0x9F000, 1), (1 << 20, 0x3F00000, 1), (0x4000000, 0x4000000, 1)), (636, 0x7F00000 >> 10)),
        (((0, 0x9F000, 1), (1 << 20, 0x7F00000, 1), (0x9000000, 0x1000, 1)), (636, 0x7F00000 >> 10)),
        (((0, 0x8000000, 1),), (640, 0x7F00000 >> 10)),
        (((0x1000, 0x9E000, 1), (1 << 20, 0x7F00000, 1)), (0, 0x7F00000 >> 10)),
    ],
    ids=["a PC", "RAM above 640 KiB", "two in a row", "a gap", "one piece", "nothing at 0"],
)
def test_basic_memory_is_counted_up_to_the_first_gap(
    entries: tuple[tuple[int, int, int], ...], expected: tuple[int, int], tmp_path: Path
) -> None:
    verdict = prove(subject(tmp_path), OwnStartInfo(memory_map=tuple(MapEntry(*e) for e in entries)))
    assert verdict.findings == ()
    assert verdict.handover is not None
    tags = {tag["type"]: tag["body"] for tag in verdict.handover["tags"]}
    assert struct.unpack("<II", bytes.fromhex(tags[TagType.MEMORY])) == expected


def test_a_module_keeps_its_own_words(tmp_path: Path) -> None:
    words = b"its own words\0\0\0"
    told = b"\x8b\x46\x30\xc7\x40\x10" + u32(0x5000)  # mov modules(%esi), %eax; movl $0x5000, 16(%eax)
    verdict = prove(subject(tmp_path, between=put(0x5000, words) + told), Qemu())
    said = "module 0 has command line b'its own words', the environment gave b''"
    assert [finding.message for finding in verdict.findings] == [said]  # by PVH nobody gives any


def test_without_rsdp_or_modules_there_are_no_tags_of_them(tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path, cmdline=b"", modules=0), Firecracker())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    kinds = {tag["type"] for tag in verdict.handover["tags"]}
    assert kinds == {TagType.CMDLINE, TagType.LOADER_NAME, TagType.MEMORY, TagType.MEMORY_MAP, MAGIC}


FRAMEBUFFER = struct.pack("<QQIIIIBBBBBBH", 0xFD000000, 0x300000, 1024, 768, 4096, 32, 16, 8, 8, 8, 0, 8, 0)


def test_what_other_fronts_put_into_the_record_becomes_tags(tmp_path: Path) -> None:
    """A framebuffer, EFI system table, EFI map and an RSDP of revision 2."""
    rsdp = b"RSD PTR " + bytes([0]) + b"OEM---" + bytes([2]) + struct.pack("<IIQ4x", 0, 36, 0x12345678)
    between = (
        put(0x5000, FRAMEBUFFER) + put(0x5100, rsdp) + put(0x5200, b"".join(map(u32, range(24))))
        + in_record(0x80, 0x5000) + in_record(0x58, 0x5100) + in_record(0x60, 0xAABBC000)
        + in_record(0x68, 0x5200) + in_record(0x70, 96) + in_record(0x78, 48) + in_record(0x7C, 1)
    )  # fmt: skip
    verdict = prove(subject(tmp_path, between=between), Qemu())
    assert verdict.handover is not None
    tags = {tag["type"]: bytes.fromhex(tag["body"]) for tag in verdict.handover["tags"]}
    pitch_to_type = struct.pack("<QIIIBBH", 0xFD000000, 4096, 1024, 768, 32, 1, 0)
    assert tags[TagType.FRAMEBUFFER] == pitch_to_type + bytes([16, 8, 8, 8, 0, 8])
    assert tags[TagType.ACPI_NEW] == rsdp and TagType.ACPI_OLD not in tags
    assert tags[TagType.EFI64] == struct.pack("<Q", 0xAABBC000)
    assert tags[TagType.EFI_MEMORY_MAP] == struct.pack("<II", 48, 1) + b"".join(map(u32, range(10)))
    # and nobody gave these
    assert {*rules(verdict)} == {"BB-H044", "BB-H045", "BB-H047"}


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (
            in_record(0x58, 0x5100) + put(0x5100, bytes(15) + bytes([2]) + bytes(4) + u32(0x10000)),
            "its information would take more than 65536 bytes",
        ),
        (
            b"\x8b\x46\x30\xff\x40\x04",  # mov modules(%esi), %eax; incl 4(%eax)
            "a module lies above 4 GiB",
        ),
    ],
    ids=["an RSDP of 64 KiB", "a module above 4 GiB"],
)
def test_what_multiboot2_cannot_say_is_told_and_not_lost(between: bytes, reason: str, tmp_path: Path) -> None:
    verdict = prove(subject(tmp_path, between=between), Qemu())
    assert rules(verdict) == ["BB-B005"]
    assert f"console: bootbuild: cannot start a Multiboot2 kernel: {reason}" in verdict.findings[0].lines


def header(kind: int, body: bytes) -> bytes:
    """A Multiboot2 header with one tag."""
    tags = struct.pack("<HHI", kind, 0, 8 + len(body)) + body + struct.pack("<HHI", 0, 0, 8)
    size = 16 + len(tags)
    return struct.pack("<4I", 0xE85250D6, 0, size, -(0xE85250D6 + size) & 0xFFFFFFFF) + tags


def test_a_kernel_that_could_be_moved_is_told_where_it_was_loaded(tmp_path: Path) -> None:
    relocatable = header(10, struct.pack("<4I", 0, 0xFFFFFFFF, 4096, 0))
    verdict = prove(subject(tmp_path, header=relocatable), Qemu())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert {"type": TagType.LOAD_BASE, "body": u32(ENTRY).hex()} in verdict.handover["tags"]


def test_a_module_that_does_not_begin_at_a_page_stops_a_kernel_that_asks_for_it(tmp_path: Path) -> None:
    moved = b"\x8b\x46\x30\xff\x00"  # mov modules(%esi), %eax; incl (%eax)
    verdict = prove(subject(tmp_path, between=moved, header=header(6, b"")), Qemu())
    assert rules(verdict) == ["BB-B005"]
    reason = "it asks for modules that begin at a page, and one does not"
    assert f"console: bootbuild: cannot start a Multiboot2 kernel: {reason}" in verdict.findings[0].lines
    verdict = prove(subject(tmp_path, between=moved), Qemu())
    assert rules(verdict) == ["BB-H042"]  # nobody asked: it is passed on as it is, and these are other bytes


def native(info: Multiboot2Info, magic: int = mb2.MAGIC) -> Subject:
    """A kernel whose own entry leaves `info` at PAGE: with no stub of ours, gifts alone are judged."""
    later = b"\xb8" + u32(magic) + b"\xbb" + u32(PAGE)  # mov $magic, %eax; mov $PAGE, %ebx
    data = guest(later=later, page=info.pack())
    return native_subject(data, cmdline=CMDLINE, modules=(INITRD,), guest_protocol=Multiboot2())


def test_a_kernels_own_entry_is_judged_by_what_it_was_given() -> None:
    what = native(INFORMATION)
    scene = Qemu().scene(what.image, what.offer, Filling.EXACT)
    given = scene.given
    load = next(one for one in scene.loads if one.address <= given.rsdp < one.address + one.size)
    rsdp = Tag(TagType.ACPI_OLD, load.content.read(load.offset + given.rsdp - load.address, RSDP))
    backwards = mb2.memory_map_tag(tuple(reversed(given.memory_map)))
    tags = {tag.type: tag for tag in tags_for(given)} | {rsdp.type: rsdp, backwards.type: backwards}
    del tags[MAGIC], tags[TagType.LOADER_NAME], tags[TagType.MEMORY]
    right = Multiboot2Info(tuple(tags.values()))
    verdict = prove(native(right), Qemu())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    wrong = Multiboot2Info((mb2.cmdline_tag(b"another"), *right.tags[1:]))
    assert rules(prove(native(wrong), Qemu())) == ["BB-H041"]
    assert rules(prove(native(right, 0x2BADB002), Qemu())) == ["BB-H040"]
