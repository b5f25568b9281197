"""An application that puts its kernel elsewhere, and does it wrong: the profile where it has to finds it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from bootbuild.api import Contribution, MemoryContent, Payload
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject, code_at
from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.formats.payload import Fit, open_payload
from bootbuild.guests.native import Native
from bootbuild.model.contribution import Layout
from bootbuild.model.machine import Offer
from bootbuild.model.verdict import Finding, Outcome, ProfileVerdict
from bootbuild_efi.environments.profiles import Taken
from bootbuild_efi.options import Options
from bootbuild_efi.targets import Efi
from workshop import Workshop

MiB = 1 << 20
LOAD = 16 * MiB
BY = 64 * MiB - LOAD  #: efi@taken keeps what is below 64 MiB
GRAIN = 20  #: offset in struct plan


@dataclass(frozen=True)
class Image:
    payload: Payload
    contribution: Contribution
    layout: Layout
    data: bytes

    def at(self, name: str) -> int:
        """Offset in the file of a section's contents."""
        section = next(s for s in self.layout.sections if s.name == name)
        assert section.content is not None
        return self.data.index(section.content.read(0, section.content.size))

    def fixups(self) -> tuple[int, int, int]:
        """Offset in the file of the first word of the table, and how many there are of 4 bytes and of 8."""
        text = self.layout.segments[0].data
        for at in range(len(text) - 8, 0, -4):
            narrow, wide = struct.unpack_from("<II", text, at)
            if 8 + 4 * (narrow + wide) == len(text) - at:
                return self.at(".stubs") + at + 8, narrow, wide
        raise AssertionError("no table")

    def plan(self) -> int:
        """Offset in the file: its first word is where the stubs are entered, its last move their own."""
        ((_, landing),) = self.layout.entries
        return self.data.index(struct.pack("<QI", landing, 0))


@pytest.fixture(scope="module")
def image(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Image:
    path = workshop.pie("broken-application", 64)
    found = open_payload(path, Fit(load=LOAD))
    startup = find_startup(found.elf, "startup_64", 64, Native(), found.moved)
    payload = Payload(found.elf, str(path), "elf", "", "native", startup, addresses=found.addresses)
    made = Efi().contribute(payload, Native(), Options(relocatable="low"))
    layout = container("pe").lay_out(payload, [made])
    written = container("pe").write(payload, layout, tmp_path_factory.mktemp("efi") / "image.efi")
    return Image(payload, made, layout, written.read(0, written.size))


def proved(image: Image, data: bytes | bytearray) -> ProfileVerdict:
    payload = image.payload
    subject = Subject(
        image=replace(payload.elf, packing=MemoryContent(bytes(data))),
        startup=payload.startup,
        guest=Native(),
        offer=Offer(),
        stub=image.layout.stub,
        symbols={},
        expect=b"hello: done",
        budget=50_000_000,
        timeout=60.0,
        code=code_at(payload.elf, payload.startup),
    )
    return prove(subject, Taken())


def test_the_unbroken_image_boots_elsewhere(image: Image) -> None:
    verdict = proved(image, image.data)
    assert (verdict.outcome, verdict.findings) == (Outcome.BOOTED, ())
    assert [run.placed and run.placed.physical for run in verdict.runs] == [BY] * 3


def without(image: Image, index: int) -> bytearray:
    """One of the words of 8 bytes is not mended, but the table's own beginning, which has been read."""
    data, (at, narrow, _) = bytearray(image.data), image.fixups()
    start = image.layout.segments[0].paddr + at - 8 - image.at(".stubs")
    struct.pack_into("<I", data, at + 4 * (narrow + index), start)
    return data


def stub_range_kept(image: Image) -> bytearray:
    return without(image, 1)


def load_offset_kept(image: Image) -> bytearray:
    return without(image, 2)


def a_word_mended_twice(image: Image) -> bytearray:
    data, (at, narrow, wide) = bytearray(image.data), image.fixups()
    end = at + 4 * (narrow + wide)
    data[end - 8 : end - 4] = data[end - 4 : end]
    return data


def nothing_mended(image: Image) -> bytearray:
    data, (at, _, _) = bytearray(image.data), image.fixups()
    data[at - 8 : at] = bytes(8)
    return data


def between_two_multiples(image: Image) -> bytearray:
    """With the grain of a page, where the kernel's start is none of 2 MiB from where it is linked."""
    data, at = bytearray(image.data), image.plan()
    assert struct.unpack_from("<I", data, at + GRAIN) == (2 * MiB,)
    struct.pack_into("<I", data, at + GRAIN, 0x7000)
    return data


def other_code(image: Image) -> bytearray:
    """The kernel's first instruction in its other encoding: mov %rsp, %rdx."""
    data, code = bytearray(image.data), code_at(image.payload.elf, image.payload.startup)
    assert code[:3] == bytes.fromhex("48 89 e2")
    at = image.data.index(code)
    data[at : at + 3] = bytes.fromhex("48 8b d4")
    return data


BROKEN: dict[str, tuple[Callable[[Image], bytearray], str, str]] = {
    "the stub range is as it was linked": (stub_range_kept, "BB-H011", "stub range is 0x1200000+"),
    "the load offset is as it was linked": (
        load_offset_kept,
        "BB-H007",
        f"load_offset is {LOAD:#x}, the kernel was moved by {LOAD + BY:#x}",
    ),
    "a word is mended twice": (a_word_mended_twice, "BB-B020", "is not the payload's"),
    "nothing is mended": (nothing_mended, "BB-B003", "startup_64 was not reached"),
    "the place is not aligned": (between_two_multiples, "BB-B005", "startup_64 was not reached"),
    "it is other code": (other_code, "BB-B005", "startup_64 was not reached"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_goes_wrong_is_found(image: Image, name: str) -> None:
    broken, rule, text = BROKEN[name]
    found: Finding = proved(image, broken(image)).findings[0]
    assert (found.rule, text in found.message) == (rule, True), found
