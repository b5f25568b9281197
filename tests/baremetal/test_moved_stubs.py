"""An image that was mended is the one that would have been linked where it was moved, word for word."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from bootbuild.api import Blob, Payload, Piece, Waist, Words
from bootbuild.api import Guest as Protocol
from bootbuild.boot.subject import find_startup
from bootbuild.formats.payload import Fit, open_payload
from bootbuild.guests.native import Native
from bootbuild.machine import Machine
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from bootbuild.stubs.link import Linked, Params, extent, link
from bootbuild_baremetal.headers import HeaderTag
from bootbuild_baremetal.moved import mended
from bootbuild_baremetal.options import Options2
from bootbuild_baremetal.targets import Multiboot2
from bootbuild_efi.options import Options
from bootbuild_efi.targets import Efi
from bootbuild_linux.guests import Linux
from bootbuild_pvh.guests import PvhGuest
from machine_guests import CODE, Guest, identity, long, protected, scene, tables
from workshop import Workshop

MiB = 1 << 20
TEXT, BSS = 0x1200000, 0x1300000
CASES: list[tuple[int, Protocol, bool]] = [
    (64, Native(), False),
    (32, Native(), False),
    (64, Native(), True),
    (64, Linux(), False),
    (32, Linux(), False),
    (32, PvhGuest(), False),
]


def movable(workshop: Workshop, width: int, guest: Protocol) -> Payload:
    path = workshop.pie(f"mended{width}", width)
    found = open_payload(path, Fit(load=16 * MiB))
    startup = find_startup(found.elf, f"startup_{width}", width, guest, found.moved)
    return Payload(found.elf, str(path), "elf", "", guest.name, startup, addresses=found.addresses)


@pytest.mark.parametrize("target", ["multiboot2", "efi"])
@pytest.mark.parametrize("by", [0x7A00000, -0xE00000])
@pytest.mark.parametrize(("width", "guest", "alive"), CASES)
def test_mending_is_linking_elsewhere(
    workshop: Workshop, width: int, guest: Protocol, alive: bool, by: int, target: str
) -> None:
    payload = movable(workshop, width, guest)
    if target == "efi":
        made = Efi().contribute(payload, guest, Options(relocatable="any", boot_services=alive))
    else:
        made = Multiboot2().contribute(payload, guest, Options2(relocatable="any", boot_services=alive))
    assert made.addresses is payload.addresses

    def linked(at: int) -> Linked:
        zero = (Span(0x1100000 + at, 0x1000), Span(0x1108000 + at, 0x123))
        stub = Span(TEXT + at, 0x200000)
        given = Params(payload.startup.paddr + at, stub, at, None, zero, made.addresses)
        return link(made.chain, made.companions, given, TEXT + at, BSS + at)

    here, there = linked(0), linked(by)
    at = here.exports["bb_fixups"] - TEXT
    mended = bytearray(here.text[:at])
    narrow, wide = struct.unpack_from("<II", here.text, at)
    places = struct.unpack_from(f"<{narrow + wide}I", here.text, at + 8)
    assert payload.addresses is not None
    assert set(payload.addresses.places) <= {*places}
    for index, place in enumerate(places):
        if place in range(TEXT, TEXT + at):
            size = 4 if index < narrow else 8
            offset = place - TEXT
            word = int.from_bytes(mended[offset : offset + size], "little") + by & (1 << 8 * size) - 1
            mended[offset : offset + size] = word.to_bytes(size, "little")
    assert bytes(mended) == there.text[:at]
    assert extent(made.chain, made.companions, 2, made.addresses).text_size == len(here.text)


@pytest.mark.parametrize(("like", "preference"), [("any", 0), ("low", 1), ("high", 2)])
def test_the_tag_and_the_entries(workshop: Workshop, like: str, preference: int) -> None:
    payload = movable(workshop, 64, Native())
    options = Options2(relocatable=like, boot_services=True)  # type: ignore[arg-type]
    made = Multiboot2().contribute(payload, Native(), options)
    (spec,) = made.headers
    tags, at = {}, 16
    while at < len(spec.data):
        kind, flags, size = struct.unpack_from("<HHI", spec.data, at)
        tags[kind] = flags, spec.data[at + 8 : at + size], at + 8
        at += -(-size // 8) * 8
    assert tags[HeaderTag.RELOCATABLE][:2] == (0, struct.pack("<4I", MiB, 0x7FFFFFFF, 2 * MiB, preference))
    named = {place: field.symbol for place, field in spec.fields if not isinstance(field, type)}  # type: ignore[union-attr]
    assert named == {
        tags[HeaderTag.ENTRY_ADDRESS][2]: "bb_multiboot_moved",
        tags[HeaderTag.ENTRY_ADDRESS_EFI64][2]: "bb_multiboot_moved_efi64",
    }
    stays = Multiboot2().contribute(payload, Native(), Options2())
    assert (stays.addresses, stays.chain[0].entry) == (None, "bb_multiboot_entry")


def test_a_segment_of_larger_alignment_decides(workshop: Workshop) -> None:
    payload = movable(workshop, 64, Native())
    first, *others = payload.elf.loads
    elf = replace(payload.elf, segments=(replace(first, align=8 * MiB), *others))
    made = Multiboot2().contribute(replace(payload, elf=elf), Native(), Options2(relocatable="any"))
    assert struct.pack("<4I", MiB, 0x7FFFFFFF, 8 * MiB, 0) in made.headers[0].data


# -- The stub itself, run where it is not linked: in front of a piece of ours that halts.

HALT = Blob("halt", 32, b"\xf4", 16, 0, 1, (), {"bb_halt": (".text", 0)}, "by hand")
INFORMATION = 0x5000
WORD = 0x800  #: bytes behind the start of the text, of a kernel's word that holds an address


def moved(width: int, linked_at: int, size: int, word: int, eax: int = 0x36D76289) -> tuple[Machine, int]:
    """The machine that halted behind the stub, and what the word is then."""
    chain = mended((Piece(replace(HALT, width=width), "bb_halt", Waist(width), None),))
    places = Words((linked_at + WORD,), size)
    params = Params(linked_at, Span(linked_at, 0x10000), 0, addresses=places)
    text = link(chain, [], params, linked_at, linked_at + 0x8000).text.ljust(WORD, b"\0")
    code = text + (word & (1 << 8 * size) - 1).to_bytes(size, "little")
    registers = {"rax": eax, "rbx": INFORMATION, "rsp": 0}
    state = long(registers=registers) if width == 64 else protected(registers=registers)
    memory = tables(width == 64) | (identity() if width == 64 else {}) | {INFORMATION: bytes(range(16))}
    machine = Machine(scene(Guest(code, "long64" if width == 64 else "protected32", state, memory)))
    stop = machine.run(checkpoints={}, budget=10_000, seconds=20)
    assert stop.kind is StopKind.HALTED, stop
    return machine, int.from_bytes(machine.read(CODE + WORD, size), "little")


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("linked_at", [0x80000, 0x1200000, CODE])
@pytest.mark.parametrize("word", [0x1234567, -0x80000, -1, 0xFFFFFFFF, 0x7FF00000])
@pytest.mark.parametrize("width", [32, 64])
def test_a_word_of_any_value_is_mended(width: int, linked_at: int, size: int, word: int) -> None:
    """One that points below or above the kernel, too: carries go through all of it."""
    machine, found = moved(width, linked_at, size, word)
    with machine:
        assert found == word + CODE - linked_at & (1 << 8 * size) - 1
        assert machine.get("rax") & 0xFFFFFFFF == 0x36D76289
        assert machine.get("rbx") == INFORMATION
        assert machine.read(INFORMATION, 16) == bytes(range(16))


def test_what_was_not_started_by_multiboot2_is_left_to_the_front() -> None:
    machine, found = moved(32, 0x1200000, 8, 0x1234567, eax=0x2BADB002)
    with machine:
        assert (found, machine.get("rax")) == (0x1234567, 0x2BADB002)
