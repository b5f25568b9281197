"""An image that its loader may move: what cannot be moved is refused, and what was not mended is found."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.api import Contribution, ElfImage, Payload, RefusedError, Words
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject, code_at
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import Fit, open_payload
from bootbuild.guests.native import Native
from bootbuild.host import Host
from bootbuild.model.content import MemoryContent
from bootbuild.model.contribution import Layout
from bootbuild.model.machine import Offer
from bootbuild.model.verdict import Outcome, ProfileVerdict
from bootbuild.pipeline import contribute, read_payloads
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from bootbuild_baremetal.environments.grub_bios import Multiboot2 as Bios
from bootbuild_baremetal.guests import Multiboot2 as Multiboot2Guest
from bootbuild_baremetal.options import Options2
from bootbuild_baremetal.targets import Multiboot2
from workshop import Workshop

MiB = 1 << 20
LOAD = 16 * MiB
LOW = Options2(relocatable="low")


def opened(path: Path, width: int = 64, load: int | None = LOAD) -> Payload:
    found = open_payload(path, Fit(load=load))
    startup = find_startup(found.elf, f"startup_{width}", width, Native(), found.moved)
    return Payload(
        found.elf, str(path), found.format, "", "native", startup, b"quiet", addresses=found.addresses
    )


@pytest.fixture(scope="module")
def pie(workshop: Workshop) -> Payload:
    return opened(workshop.pie("broken-moved", 64))


def refusals(payload: Payload, guest: Any = None) -> list[tuple[str, str]]:
    with pytest.raises(RefusedError) as caught:
        Multiboot2().contribute(payload, guest or Native(), LOW)
    return [(problem.rule.id, problem.message) for problem in caught.value.problems]


def test_a_kernel_that_is_no_pie(hello64: Path) -> None:
    (found,) = refusals(opened(hello64, load=None))
    assert found == ("BB-L336", "it is no static PIE: which of its words hold addresses, nobody knows")


def _first(payload: Payload, **fields: int) -> Payload:
    """The payload with another first PT_LOAD."""
    first, *others = payload.elf.loads
    elf = replace(payload.elf, segments=(replace(first, **fields), *others))
    return replace(payload, elf=elf)


CASES: dict[str, tuple[Callable[[Payload], Payload], str]] = {
    "linked elsewhere": (lambda p: _first(p, vaddr=0x100000), "it would run where it is not loaded"),
    "between two multiples": (
        lambda p: _first(p, align=0x2000000),
        "its lowest byte at 0x1000000 is at no multiple of 0x2000000",
    ),
    "of too large a grain": (
        lambda p: _first(p, align=1 << 32),
        "its p_align of 0x100000000 leaves no other place below 2 GiB",
    ),
    "above 2 GiB": (lambda p: _first(p, memsz=0x7F000000), "above 2 GiB"),
    "a word twice": (
        lambda p: replace(p, addresses=Words((LOAD + 12, LOAD + 64, LOAD + 5), 8)),
        "two relocations change the word at 0x100000c",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pie_that_cannot_be_moved(pie: Payload, name: str) -> None:
    broken, text = CASES[name]
    (found,) = refusals(broken(pie))
    assert (found[0], text in found[1]) == ("BB-L336", True), found


def test_a_guest_that_knows_nothing_of_it(workshop: Workshop) -> None:
    payload = opened(workshop.pie("broken-moved32", 32), 32)
    (found,) = refusals(payload, Multiboot2Guest())
    assert found == ("BB-L337", "guest multiboot2 does not say that it is movable")


def test_a_recipe_that_asks_for_neither_place(tmp_path: Path, hello64: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        [targets.multiboot2]
        relocatable = "any"
        """
    )
    host = Host.discover()
    recipe = read(path, host, Overrides())
    with pytest.raises(RefusedError) as caught:
        contribute(read_payloads(recipe, host)["multiboot2"], recipe.targets["multiboot2"], host)
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-L336"]


# -- images whose table of fixups was changed after they were built


@pytest.fixture
def image(pie: Payload, tmp_path: Path) -> tuple[Contribution, Layout, ElfImage]:
    made = Multiboot2().contribute(pie, Native(), LOW)
    layout = container("elf").lay_out(pie, [made])
    return made, layout, read_elf(container("elf").write(pie, layout, tmp_path / "image.elf"), "image.elf")


def table(layout: Layout, image: ElfImage) -> int:
    """Offset in the file of the table, which ends the stubs' text."""
    text = layout.segments[0]
    home = image.segment_at(text.vaddr)
    assert home is not None
    for at in range(len(text.data) - 8, 0, -4):
        if 8 + 4 * sum(struct.unpack_from("<II", text.data, at)) == len(text.data) - at:
            return home.offset + at
    raise AssertionError("no table")


def proved(pie: Payload, layout: Layout, image: ElfImage, data: bytes) -> ProfileVerdict:
    changed = read_elf(MemoryContent(data), image.name)
    subject = Subject(
        image=changed,
        startup=pie.startup,
        guest=Native(),
        offer=Offer(pie.cmdline),
        stub=layout.stub,
        symbols={},
        expect=b"hello: done",
        budget=50_000_000,
        timeout=60.0,
        code=code_at(pie.elf, pie.startup),
    )
    profile = Bios()
    return prove(subject, profile, Host.discover().loader(profile.loader))


def test_the_unbroken_image_boots_where_it_was_moved(pie: Payload, image: Any) -> None:
    _, layout, built = image
    verdict = proved(pie, layout, built, built.content.read(0, built.content.size))
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    assert verdict.handover is not None
    assert verdict.handover["stub"]["base"] == "0x400000"


def words(layout: Layout, built: ElfImage) -> tuple[bytearray, int, int, int]:
    """The file, where the table's words begin, and how many of either size there are."""
    data = bytearray(built.content.read(0, built.content.size))
    at = table(layout, built)
    return data, at + 8, *struct.unpack_from("<II", data, at)


UNUSED = 84  #: bytes behind the start of the stubs, in front of the next one: nobody looks there
MISSING = {
    "the stub range": (1, "BB-H011", "stub range is 0x1200000+"),
    "the load offset": (2, "BB-H007", "load_offset is 0x1000000, the kernel was moved by 0x200000"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_word_that_is_not_mended(pie: Payload, image: Any, name: str) -> None:
    index, rule, text = MISSING[name]
    _, layout, built = image
    data, at, narrow, _ = words(layout, built)
    struct.pack_into("<I", data, at + 4 * (narrow + index), layout.segments[0].paddr + UNUSED)
    found = proved(pie, layout, built, bytes(data)).findings[0]
    assert (found.rule, text in found.message) == (rule, True), found


def test_a_word_that_is_mended_twice(pie: Payload, image: Any) -> None:
    """It is one that this boot does not use: what is found is that the payload is not as it was."""
    _, layout, built = image
    data, at, narrow, count = words(layout, built)
    last = at + 4 * (narrow + count) - 4
    data[last - 4 : last] = data[last : last + 4]
    (found,) = proved(pie, layout, built, bytes(data)).findings
    (place,) = struct.unpack_from("<I", data, last)
    assert found.rule == "BB-B020"
    at = int(found.message.split()[3], 16)
    assert at in range(place - 14 * MiB, place - 14 * MiB + 8)


def patched(layout: Layout, built: ElfImage, old: bytes, new: bytes) -> bytes:
    """The image with other code in the stub that mends."""
    home = built.segment_at(layout.segments[0].vaddr)
    assert home is not None
    data = bytearray(built.content.read(0, built.content.size))
    at = data.index(old, home.offset, home.offset + UNUSED)
    data[at : at + len(old)] = new
    return bytes(data)


def test_information_that_is_none(pie: Payload, image: Any) -> None:
    """With another magic number nothing is mended: what EBX leads to is nobody's to write to."""
    _, layout, built = image
    other = patched(layout, built, b"\x3d\x89\x62\xd7\x36", b"\x3d\x88\x62\xd7\x36")  # cmp $MAGIC, %eax
    (found,) = proved(pie, layout, built, other).findings
    assert "moved: 0xe00000 bytes below where it is linked" in found.lines


def test_a_reserved_word_that_is_not_put_back(pie: Payload, image: Any) -> None:
    """It was the stack of the one call, and the information is to be as GRUB left it."""
    _, layout, built = image
    other = patched(layout, built, b"\x89\x7b\x04", b"\x90\x90\x90")  # mov %edi, 4(%ebx)
    found = proved(pie, layout, built, other).findings[0]
    assert (found.rule, found.message) == (
        "BB-H006",
        "the structure at 0x100000 is not as the environment wrote it",
    )
