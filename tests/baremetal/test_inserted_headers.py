"""The headers that targets multiboot1 and multiboot2 write, read by structs of the test's own."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.boot.subject import find_startup
from bootbuild.containers import container
from bootbuild.errors import RefusedError
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import open_payload
from bootbuild.guests.native import Native
from bootbuild.model.contribution import Contribution
from bootbuild.model.payload import ElfImage, Payload
from bootbuild.model.waist import Piece, Waist
from bootbuild_baremetal.options import Options1, Options2
from bootbuild_baremetal.targets import Multiboot1, Multiboot2
from bootbuild_linux.guests import Linux
from bootbuild_pvh.targets import Pvh
from bootbuild_xenpv.options import Options as PvOptions
from bootbuild_xenpv.targets import XenPv

PAGE = Path(__file__).resolve().parents[2] / "docs/multiboot.md"
STUB = 0x200000


@pytest.fixture
def payload(hello64: Path) -> Payload:
    opened = open_payload(hello64)
    startup = find_startup(opened.elf, "startup_64", 64, Native())
    return Payload(opened.elf, str(hello64), "elf", opened.digest, "native", startup)


@pytest.fixture
def written(payload: Payload, tmp_path: Path) -> Callable[..., ElfImage]:
    """The image of some contributions, as it is read back."""

    def write(*contributions: Contribution) -> ElfImage:
        layout = container("elf").lay_out(payload, contributions)
        return read_elf(container("elf").write(payload, layout, tmp_path / "image.elf"), "image.elf")

    return write


def found(image: ElfImage, magic: int, step: int) -> tuple[int, tuple[int, ...]]:
    """The first header, as words from its place on."""
    raw = image.content.read(0, 8192)
    for at in range(0, len(raw) - 64, step):
        words = struct.unpack_from("<16I", raw, at)
        if words[0] == magic:
            return at, words
    raise AssertionError("no header")


@pytest.mark.parametrize(
    ("options", "flags", "video"),
    [
        (Options1(), 3, None),
        (Options1(module_align=False), 2, None),
        (Options1(framebuffer="1024x768x32"), 7, (0, 1024, 768, 32)),
        (Options1(framebuffer="any"), 7, (0, 0, 0, 0)),
        (Options1(module_align=False, framebuffer="any"), 6, (0, 0, 0, 0)),
    ],
)
def test_a_multiboot1_header_asks_for_what_the_recipe_says(
    payload: Payload, written: Any, options: Options1, flags: int, video: tuple[int, ...] | None
) -> None:
    image = written(Multiboot1().contribute(payload, Native(), options))
    _, words = found(image, 0x1BADB002, 4)
    assert words[1] == flags
    assert sum(words[:3]) % (1 << 32) == 0
    if video is not None:
        assert words[3:12] == (0, 0, 0, 0, 0, *video)
    assert image.bits == 32
    assert image.entry == Multiboot1().entry_of(image) == STUB


def test_the_class_of_the_file_may_stay(payload: Payload, written: Any) -> None:
    image = written(Multiboot1().contribute(payload, Native(), Options1(elf_class=64)))
    assert image.bits == 64
    assert image.entry == STUB + payload.startup.vaddr - payload.startup.paddr
    assert Multiboot1().entry_of(image) == STUB


def test_addresses_lead_to_the_stub_and_leave_e_entry_alone(payload: Payload, tmp_path: Path) -> None:
    elf = payload.elf
    segments = tuple(replace(s, paddr=s.paddr + STUB) if s.memsz else s for s in elf.segments)
    startup = replace(payload.startup, paddr=payload.startup.paddr + STUB)
    higher = replace(payload, elf=replace(elf, segments=segments, entry=startup.vaddr), startup=startup)
    made = Multiboot1().contribute(higher, Native(), Options1(elf_class=64, addresses=True))
    layout = container("elf").lay_out(higher, [made])
    image = read_elf(container("elf").write(higher, layout, tmp_path / "image.elf"), "image.elf")
    at, words = found(image, 0x1BADB002, 4)
    assert words[1] == 0x10003
    assert words[3] == words[4] == image.loads[0].paddr - (image.loads[0].offset - at)
    assert words[7] == Multiboot1().entry_of(image) == 2 * STUB
    assert (image.bits, image.entry) == (64, startup.vaddr)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (Options2(), {6: b""}),
        (Options2(module_align=False), {}),
        (Options2(framebuffer="800x600"), {6: b"", 5: struct.pack("<3I", 800, 600, 0)}),
    ],
)
def test_a_multiboot2_header_asks_for_what_the_recipe_says(
    payload: Payload, written: Any, options: Options2, more: dict[int, bytes]
) -> None:
    image = written(Multiboot2().contribute(payload, Native(), options))
    at, words = found(image, 0xE85250D6, 8)
    assert words[1] == 0
    assert sum(words[:4]) % (1 << 32) == 0
    tags, raw = {}, image.content.read(at, words[2])
    place = 16
    while place < len(raw):
        kind, flags, size = struct.unpack_from("<HHI", raw, place)
        assert flags == (kind == 5)  # a mode is wished for, all else required
        tags[kind] = raw[place + 8 : place + size]
        place += -(-size // 8) * 8
    assert tags.pop(0) == b""
    assert tags == {1: struct.pack("<I", 6), 3: struct.pack("<I", STUB), **more}
    assert Multiboot2().entry_of(image) == STUB


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Options2(framebuffer="big"), "framebuffer is 'big', neither `any` nor like `1024x768x32`"),
        (lambda: Options2(framebuffer="\u0663x\u0663"), "framebuffer is '\u0663x\u0663', neither"),
        (lambda: Options1(elf_class=16), "elf_class is 16, neither 32 nor 64"),
    ],
)
def test_other_values_are_no_options(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        make()


def test_every_key_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:boolean|text|integer) \| (.*?) \|", text, re.MULTILINE))
    expected = {
        f.name: getattr(default, f.name) for default in (Options1(), Options2()) for f in fields(default)
    }
    assert {
        name: "–" if value is None else f"`{json.dumps(value)}`" for name, value in expected.items()
    } == rows


def test_two_entries_share_a_file_with_their_classes(payload: Payload, written: Any) -> None:
    native, pv = Native(), XenPv().contribute(payload, Native(), PvOptions())
    with pytest.raises(RefusedError) as caught:
        written(pv, Multiboot1().contribute(payload, native, Options1()))
    assert [problem.rule.id for problem in caught.value.problems] == ["BB-W013"]
    image = written(
        pv,
        Pvh().contribute(payload, native, None),
        Multiboot1().contribute(payload, native, Options1(elf_class=64)),
        Multiboot2().contribute(payload, native, Options2()),
    )
    entries = [target.entry_of(image) for target in (XenPv(), Pvh(), Multiboot1(), Multiboot2())]
    assert None not in entries
    assert len(set(entries)) == 4


def test_a_multiboot2_header_leads_uefi_to_an_entry_of_its_own(payload: Payload, written: Any) -> None:
    """Both tags are optional: a loader that knows neither has the 32-bit entry."""
    image = written(Multiboot2().contribute(payload, Native(), Options2(boot_services=True)))
    at, words = found(image, 0xE85250D6, 8)
    header = image.content.read(at, words[2])
    tags, at = {}, 16
    while at < len(header):
        kind, flags, size = struct.unpack_from("<HHI", header, at)
        tags[kind] = flags, struct.unpack_from("<I", header, at + 8)[0] if size > 8 else None
        at += -(-size // 8) * 8
    assert tags[7] == (1, None)
    assert tags[9][0] == 1
    (code,) = (s for s in image.loads if s.paddr == STUB)
    assert tags[3][1] == Multiboot2().entry_of(image)
    assert tags[9][1] in range(code.paddr + 16, code.paddr + code.filesz)
    assert (
        image.content.read(code.offset + tags[9][1] - code.paddr, 4) == b"\x48\x83\xe4\xf0"
    )  # and $-16, %rsp


def test_boot_services_need_a_guest_and_an_address_that_can_have_them(payload: Payload) -> None:
    startup = payload.startup
    low = replace(payload, startup=replace(startup, vaddr=startup.paddr + (1 << 40)))
    narrow = replace(payload, startup=replace(startup, width=32, vaddr=startup.paddr))
    for kernel, guest, rule in (
        (payload, Linux(), "BB-L301"),
        (narrow, Native(), "BB-L301"),
        (low, Native(), "BB-L313"),
    ):
        assert Multiboot2().contribute(kernel, guest, Options2()).chain
        with pytest.raises(RefusedError) as caught:
            Multiboot2().contribute(kernel, guest, Options2(boot_services=True))
        assert [problem.rule.id for problem in caught.value.problems] == [rule]


@pytest.mark.parametrize("target", [Multiboot1(), Multiboot2()])
def test_a_guest_that_cannot_be_entered_from_32_bit_mode_is_refused(target: Any, payload: Payload) -> None:
    class Without(Native):
        def back(self, width: int) -> Piece | None:
            return None

    class InRing3(Native):
        def back(self, width: int) -> Piece | None:
            back = super().back(width)
            return back and replace(back, takes=Waist(64, privilege=3))

    for guest in (Without(), InRing3()):
        with pytest.raises(RefusedError) as caught:
            target.contribute(payload, guest, target.options())
        assert [problem.rule.id for problem in caught.value.problems] == ["BB-L301"]
