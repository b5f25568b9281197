"""A guest that hands over boot_params: right ones boot, and each wrong field is exactly one finding."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from bootbuild.abi import boot_params as bp
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.model.content import MemoryContent
from bootbuild.model.machine import Filling, MapEntry
from bootbuild.model.verdict import Outcome
from bootbuild_linux.guests import Linux
from bootbuild_pvh.environments import Qemu
from tiny_guest import PAGE, guest, image_of, subject, u32

CMDLINE = b"console=ttyS0 quiet"
INITRD = ("initrd", MemoryContent(b"not really a cpio archive"), b"")
LOAD_PAGE = b"\xbe" + u32(PAGE)  # mov $PAGE, %esi

Mutation = Callable[[bytearray], None]


def right_page() -> bytearray:
    """boot_params as they must be in pvh@qemu with CMDLINE and INITRD."""
    what = linux(guest())
    given = Qemu().scene(what.image, what.offer, Filling.EXACT).given
    page = bytearray(bp.SIZE)
    struct.pack_into("<I", page, bp.CMD_LINE_PTR, 0x11C0)
    struct.pack_into("<II", page, bp.RAMDISK_IMAGE, given.modules[0].span.start, given.modules[0].span.size)
    table = (*given.memory_map, MapEntry(0xA0000, 0x60000, 2))
    page[bp.E820_ENTRIES] = len(table)
    for index, entry in enumerate(table):
        at = bp.E820_TABLE + bp.E820_ENTRY_SIZE * index
        struct.pack_into("<QQI", page, at, entry.address, entry.size, entry.type)
    struct.pack_into("<Q", page, bp.ACPI_RSDP_ADDR, given.rsdp)
    return page


def linux(data: bytes) -> Subject:
    return subject(data, cmdline=CMDLINE, modules=(INITRD,), guest_protocol=Linux())


def store(offset: int, form: str, value: int) -> Mutation:
    def mutate(page: bytearray) -> None:
        struct.pack_into("<" + form, page, offset, value)

    return mutate


def add(offset: int, amount: int) -> Mutation:
    def mutate(page: bytearray) -> None:
        page[offset] = (page[offset] + amount) & 0xFF

    return mutate


CASES: dict[str, tuple[str, Mutation]] = {
    "more e820 entries than there is room": ("BB-H020", store(bp.E820_ENTRIES, "B", 129)),
    "no command line": ("BB-H021", store(bp.CMD_LINE_PTR, "I", 0)),
    "a command line that begins too late": ("BB-H021", add(bp.CMD_LINE_PTR, 1)),
    "a command line where there is no memory": ("BB-H021", store(bp.CMD_LINE_PTR, "I", 0xF0000000)),
    "no ramdisk": ("BB-H022", store(bp.RAMDISK_SIZE, "I", 0)),
    "a ramdisk that begins too late": ("BB-H022", add(bp.RAMDISK_IMAGE, 1)),
    "a ramdisk where there is no memory": ("BB-H022", store(bp.RAMDISK_IMAGE, "I", 0xF0000000)),
    "a lost e820 entry": ("BB-H023", add(bp.E820_ENTRIES, -2)),
    "RAM that is called reserved": ("BB-H023", store(bp.E820_TABLE + 16, "I", 2)),
    "an e820 entry that nobody gave": ("BB-H023", add(bp.E820_ENTRIES, 1)),
    "another RSDP": ("BB-H024", store(bp.ACPI_RSDP_ADDR, "Q", 0xE0000)),
}


def test_right_boot_params_boot() -> None:
    verdict = prove(linux(guest(later=LOAD_PAGE, page=bytes(right_page()))), Qemu())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["cmdline"] == CMDLINE.decode()


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_field_is_exactly_one_finding(name: str) -> None:
    rule, mutate = CASES[name]
    page = right_page()
    mutate(page)
    what = linux(guest(later=LOAD_PAGE, page=bytes(page)))
    verdict = prove(what, Qemu())
    assert [f.rule for f in verdict.findings] == [rule]
    assert verdict.outcome is Outcome.FAILED
    assert prove(what, Qemu(), disabled=frozenset({rule})).findings == ()


def test_boot_params_where_there_is_no_memory_are_a_finding() -> None:
    verdict = prove(linux(guest(later=b"\xbe" + u32(0xF0000000))), Qemu())
    assert [f.rule for f in verdict.findings] == ["BB-H020"]


def test_the_image_is_one_that_pvh_loaders_take() -> None:
    assert [note.type for note in image_of(guest()).notes] == [18]
