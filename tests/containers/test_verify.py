"""A correct image, damaged in one place, is found out by exactly the rule that speaks of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bootbuild.containers import container, rules
from bootbuild.containers.verify import verify
from bootbuild.errors import ExitCode, VerificationError
from bootbuild.formats.notes import pack
from bootbuild.model.contribution import Layout, PlacedSegment
from bootbuild.model.payload import Note, Payload
from bootbuild.store import RULES as STORE_RULES

Make = Callable[..., Any]
# Offsets in Elf64_Phdr.
TYPE, FLAGS, OFFSET, VADDR, PADDR, FILESZ, MEMSZ, ALIGN = 0, 4, 8, 16, 24, 32, 40, 48


@dataclass
class Image:
    """A written ELF64 image, to be damaged."""

    payload: Payload
    layout: Layout
    data: bytearray

    def word(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self.data, at)[0])

    def put(self, at: int, value: int, kind: str = "<Q") -> None:
        struct.pack_into(kind, self.data, at, value)

    def phdr(self, index: int) -> int:
        """Offset of a program header: 0 and 1 old PT_LOADs, 2 GNU_STACK, 3 RX, 4 RW, 5 PT_NOTE."""
        return self.word(32) + 56 * index


def written(payload: Payload, layout: Layout, path: Path) -> Image:
    container("elf").write(payload, layout, path)
    return Image(payload, layout, bytearray(path.read_bytes()))


@pytest.fixture
def image(make_payload: Make, contribution: Make, tmp_path: Path) -> Image:
    payload = make_payload(64)
    return written(
        payload, container("elf").lay_out(payload, [contribution(payload)]), tmp_path / "image.elf"
    )


def found(image: Image, path: Path) -> list[str]:
    path.write_bytes(image.data)
    with pytest.raises(VerificationError) as caught:
        verify(image.payload, image.layout, path, "image.elf")
    assert caught.value.exit_code is ExitCode.INTERNAL
    assert {problem.where for problem in caught.value.problems} == {"image.elf"}
    return sorted(problem.rule.id for problem in caught.value.problems)


def test_what_was_written_passes(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    verify(image.payload, image.layout, path, "image.elf")


def _swap(image: Image) -> None:
    first, second = (slice(image.phdr(i), image.phdr(i) + 56) for i in (0, 1))
    image.data[first], image.data[second] = image.data[second], image.data[first]


def _two_notes(image: Image) -> None:
    at = image.phdr(5)
    image.data[at + 56 : at + 112] = image.data[at : at + 56]
    image.put(56, 7, "<H")


def _extra_load(image: Image) -> None:
    at = image.phdr(5)
    image.data[at + 56 : at + 112] = struct.pack("<IIQQQQQQ", 1, 4, 0x1000, 0, 0x3000000, 16, 16, 1)
    image.put(56, 7, "<H")


def _flip(at: Callable[[Image], int]) -> Callable[[Image], None]:
    def flip(image: Image) -> None:
        image.data[at(image)] ^= 0x40

    return flip


def _at(offset: int) -> Callable[[Image], int]:
    return lambda _: offset


def _set(index: int, field: int, value: int, kind: str = "<Q") -> Callable[[Image], None]:
    return lambda image: image.put(image.phdr(index) + field, value, kind)


SECTIONS = 40  # e_shoff
DAMAGE: list[tuple[str, Callable[[Image], None], list[str]]] = [
    ("EI_OSABI", _flip(_at(7)), ["BB-W020"]),
    ("e_flags", _flip(_at(48)), ["BB-W020"]),
    ("e_shstrndx", _flip(_at(62)), ["BB-W020"]),
    ("e_entry", lambda i: i.put(24, 0x100001), ["BB-W021"]),
    ("old p_vaddr", _set(0, VADDR, 0x5000000), ["BB-W022"]),
    ("old p_paddr", _set(1, PADDR, 0x5000000), ["BB-W022"]),
    ("old p_offset", _set(1, OFFSET, 0x1000), ["BB-W022"]),
    ("old p_memsz", _set(1, MEMSZ, 0x800), ["BB-W022"]),
    ("old p_flags", _set(0, FLAGS, 7, "<I"), ["BB-W022"]),
    ("old p_type", _set(2, TYPE, 0, "<I"), ["BB-W022"]),
    ("old headers swapped", _swap, ["BB-W022"]),
    ("code", _flip(_at(0x1000)), ["BB-W023"]),
    ("section header", _flip(lambda i: i.word(SECTIONS) + 64 + 16), ["BB-W023"]),
    ("last byte of the payload", _flip(lambda i: i.payload.elf.content.size - 1), ["BB-W023"]),
    ("old program header table", _flip(_at(64)), ["BB-W023"]),
    ("p_align of the notes", _set(5, ALIGN, 8), ["BB-W024"]),
    ("two PT_NOTEs", _two_notes, ["BB-W024", "BB-W027"]),
    ("no PT_NOTE", _set(5, TYPE, 0, "<I"), ["BB-W024", "BB-W026"]),
    ("note contents", _flip(lambda i: i.word(i.phdr(5) + OFFSET) + 16), ["BB-W025"]),
    ("notes cut", _set(5, FILESZ, 20), ["BB-W025"]),
    ("stub's code", _flip(lambda i: i.word(i.phdr(3) + OFFSET)), ["BB-W026"]),
    ("stub's p_paddr", _set(3, PADDR, 0x400000), ["BB-W026"]),
    ("stub's p_vaddr", _set(3, VADDR, 0x400000), ["BB-W026"]),
    ("stub's p_flags", _set(3, FLAGS, 4, "<I"), ["BB-W026"]),
    ("stub's NOBITS", _set(4, MEMSZ, 0x41), ["BB-W026"]),
    ("a segment that nobody asked for", _extra_load, ["BB-W026"]),
    ("p_align no power of two", _set(3, ALIGN, 3), ["BB-W028"]),
    ("p_offset not congruent", _set(3, ALIGN, 0x200000), ["BB-W028"]),
    ("cut to the payload", lambda i: i.data.__delitem__(slice(0x100, None)), ["BB-W023", "BB-W031"]),
]


@pytest.mark.parametrize(("damage", "expected"), [pytest.param(d, e, id=n) for n, d, e in DAMAGE])
def test_one_damage_breaks_exactly_its_rules(
    image: Image, tmp_path: Path, damage: Callable[[Image], None], expected: list[str]
) -> None:
    damage(image)
    assert found(image, tmp_path / "damaged.elf") == expected


#: of an image whose payload loads its ELF header: program header 0 has the copy, 1 the rest, 2 .bss …
OF_COPY: list[tuple[str, Callable[[Image], None], list[str]]] = [
    ("header in the copy", _flip(lambda i: i.word(i.phdr(0) + OFFSET) + 32), ["BB-W023"]),
    ("table in the copy", _flip(lambda i: i.word(i.phdr(0) + OFFSET) + 64), ["BB-W023"]),
    ("end of the copy", _flip(lambda i: i.word(i.phdr(0) + OFFSET) + 0xFFF), ["BB-W023"]),
    ("no copy", _set(0, OFFSET, 0), ["BB-W022", "BB-W026"]),
    ("p_paddr of the copy", _set(0, PADDR, 0x5000000), ["BB-W022", "BB-W026"]),
    ("p_flags of the copy", _set(0, FLAGS, 6, "<I"), ["BB-W022"]),
    ("p_memsz of the copy", _set(0, MEMSZ, 0x1008), ["BB-W022"]),
    ("a shorter copy", _set(0, FILESZ, 0xFF0), ["BB-W022"]),
    ("p_offset of the rest", _set(1, OFFSET, 0x1008), ["BB-W022"]),
    ("p_paddr of the rest", _set(1, PADDR, 0x5000000), ["BB-W022"]),
    (
        "copy in the stub",
        lambda i: i.put(i.phdr(4) + OFFSET, i.word(i.phdr(0) + OFFSET)),
        ["BB-W026", "BB-W027"],
    ),
    ("p_align of the copy", _set(0, ALIGN, 0x200000), ["BB-W028"]),
]


@pytest.mark.parametrize(("damage", "expected"), [pytest.param(d, e, id=n) for n, d, e in OF_COPY])
def test_one_damage_of_a_copied_header_breaks_exactly_its_rules(
    make_payload: Make,
    contribution: Make,
    tmp_path: Path,
    damage: Callable[[Image], None],
    expected: list[str],
) -> None:
    payload = make_payload(64, before=0x1000)
    layout = container("elf").lay_out(payload, [contribution(payload)])
    image = written(payload, layout, tmp_path / "image.elf")
    damage(image)
    assert found(image, tmp_path / "damaged.elf") == expected


def test_bytes_behind_the_headers_are_compared_whole(image: Image, tmp_path: Path) -> None:
    size = image.payload.elf.content.size
    for at in range(64, size, 97):
        image.data[at] ^= 1
        assert found(image, tmp_path / "damaged.elf") == ["BB-W023"]
        image.data[at] ^= 1


def refused_by_write(payload: Payload, layout: Layout, path: Path) -> list[str]:
    """Rules that stop `write`, which then leaves nothing."""
    with pytest.raises(VerificationError) as caught:
        container("elf").write(payload, layout, path)
    assert not path.exists()
    return sorted({problem.rule.id for problem in caught.value.problems})


def _layout(image: Image, segments: Iterable[PlacedSegment]) -> Layout:
    return replace(image.layout, segments=tuple(segments))


def test_a_layout_that_overlaps_the_payload_is_never_written(image: Image, tmp_path: Path) -> None:
    text, bss = image.layout.segments
    over = replace(text, paddr=0x101800)
    assert refused_by_write(image.payload, _layout(image, [over, bss]), tmp_path / "x") == ["BB-W027"]
    again = replace(bss, paddr=text.paddr)
    assert refused_by_write(image.payload, _layout(image, [text, again]), tmp_path / "x") == ["BB-W027"]


def test_a_table_over_a_segment_is_found(image: Image, tmp_path: Path) -> None:
    # The table's own bytes as a note's contents: two writes, since the note's size decides the offsets.
    size = 6 * 56
    notes = pack([Note("table", 1, bytes(size))])
    first = written(image.payload, replace(image.layout, notes=notes), tmp_path / "first")
    table = bytes(first.data[first.phdr(0) : first.phdr(6)])
    notes = pack([Note("table", 1, table)])
    second = written(image.payload, replace(image.layout, notes=notes), tmp_path / "second")
    second.put(32, second.data.index(table, second.phdr(6)))
    assert found(second, tmp_path / "damaged") == ["BB-W029"]


@pytest.mark.parametrize(
    "notes",
    [
        [Note("GNU", 3, bytes(20)), Note("Xen", 18, bytes(4))],
        [Note("Xen", 18, bytes(12))],
        [Note("Xen", 18, bytes(2))],
        [Note("Xen", 18, bytes(4)), Note("Xen", 18, bytes(4))],
    ],
    ids=["second", "12 bytes", "2 bytes", "twice"],
)
def test_notes_on_which_loaders_disagree_are_never_written(
    image: Image, tmp_path: Path, notes: list[Note]
) -> None:
    layout = replace(image.layout, notes=pack(notes))
    assert refused_by_write(image.payload, layout, tmp_path / "x") == ["BB-W030"]


@pytest.mark.parametrize(
    ("notes", "expected"),
    [(b"\xff" * 16, ["BB-W031"]), (pack([Note("x", 1, b"")]) + b"\1\0\0\0", ["BB-W030"])],
    ids=["too long for pyelftools", "too long for us"],
)
def test_notes_that_are_none_are_never_written(
    image: Image, tmp_path: Path, notes: bytes, expected: list[str]
) -> None:
    layout = replace(image.layout, notes=notes)
    assert refused_by_write(image.payload, layout, tmp_path / "x") == expected


def test_a_native_image_is_compared_to_the_byte(image: Image, tmp_path: Path) -> None:
    native = Image(image.payload, Layout((), b"", ()), bytearray(Path(image.payload.source).read_bytes()))
    path = tmp_path / "native.elf"
    path.write_bytes(native.data)
    verify(native.payload, native.layout, path, "native.elf")
    data = bytes(native.data)
    for damaged in (b"\0" + data[1:], data + b"\0", data[:-1], data[:24] + b"\1" + data[25:]):
        assert found(replace(native, data=bytearray(damaged)), path) == ["BB-W023"]


def test_every_rule_of_a_written_image_is_broken_by_a_case() -> None:
    covered = {rule for _, _, expected in DAMAGE for rule in expected}
    covered |= {"BB-W027", "BB-W029", "BB-W030"}  # by the tests of their own above
    covered |= {"BB-W032", "BB-W033"}  # test_front.py
    # from BB-W040 on they are of other containers, with tests of their own
    assert covered == {rule.id for rule in rules.RULES if "BB-W020" <= rule.id < "BB-W040"}


def test_rule_ids_are_unique_and_every_rule_says_how_to_get_on() -> None:
    every = (*rules.RULES, *STORE_RULES)
    assert len({rule.id for rule in every}) == len(every)
    assert all(rule.title and rule.explanation and rule.remedy for rule in every)
