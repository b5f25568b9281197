"""Notes are packed as every loader reads them; an image's own record has one exact form."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootbuild.errors import InputError
from bootbuild.formats.notes import ImageClaim, NoteError, XenNote, claims, pack, parse, phys32_entry
from bootbuild.formats.repair import faults, safe_notes
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import ElfImage, Note, Startup
from bootbuild.model.span import Span

CLAIM = ImageClaim(
    target="pvh",
    guest="linux",
    startup=Startup("startup_64", 0xFFFFFFFF81000000, 0x1000000, 64, load_offset=0x200000),
    stub=Span(0x3E00000, 0x2000),
)


def test_a_note_is_packed_as_elfnote_h_has_it() -> None:
    packed = pack([Note("Xen", XenNote.PHYS32_ENTRY, b"\x50\x08\x00\x01")])
    assert packed == bytes.fromhex("04000000 04000000 12000000 58656e00 50080001")


@pytest.mark.parametrize("name", [b"Xen\0", b"Xen", b"Xen\0more"])
def test_an_owner_ends_at_its_first_nul_as_strcmp_has_it(name: bytes) -> None:
    data = struct.pack("<III", len(name), 0, 18) + name + bytes(-len(name) % 4)
    assert parse(data) == (Note("Xen", 18, b""),)


@pytest.mark.parametrize("size", range(9))
def test_every_note_begins_at_a_multiple_of_4(size: int) -> None:
    packed = pack([Note("owner", 1, bytes(size)), Note("Xen", 18, bytes(4))])
    assert parse(packed, 0x1000)[1].offset % 4 == 0
    assert len(packed) % 4 == 0


@given(
    st.lists(
        st.builds(
            Note,
            st.text("abcXYZ", max_size=9),
            st.integers(0, 0xFFFFFFFF),
            st.binary(max_size=20),
            st.just(0),
        ),
        max_size=9,
    )
)
def test_what_is_packed_is_parsed_again(notes: list[Note]) -> None:
    assert [replace(note, offset=0) for note in parse(pack(notes))] == notes


@given(st.binary(max_size=200))
def test_any_bytes_are_notes_or_an_error(data: bytes) -> None:
    try:
        notes = parse(data)
    except NoteError:
        return
    assert sum(12 + len(note.desc) for note in notes) <= len(data)


def test_more_notes_than_xen_takes_are_an_error() -> None:
    assert len(parse(bytes(12) * 65536)) == 65536
    with pytest.raises(NoteError, match="more than 65536"):
        parse(bytes(12) * 65537)


def image(*notes: Note) -> ElfImage:
    return ElfImage("x.elf", 64, 62, 2, 0, (), notes, MemoryContent(b""))


def entries(*descs: bytes) -> ElfImage:
    return image(*(Note("Xen", 18, desc) for desc in descs), Note("Linux", 18, b"last"))


@pytest.mark.parametrize(
    ("descs", "as_it_is", "repaired"),
    [
        ((), None, None),
        ((b"\1\2\3\4",), 0x04030201, 0x04030201),
        ((b"\1\2\3\4\5\6\7\0",), 0x04030201, 0x04030201),
        ((b"\1",), 1, 1),
        ((b"\1\2",), 0x0201, 0x0201),
        ((b"\1\2\3\4\5",), None, 0x04030201),
        ((b"\1\2\3\4" * 3,), None, 0x04030201),
        ((b"\1\2\3",), None, None),
        ((b"",), None, None),
        ((b"aaaa", b"\1\0\0\0"), 1, 1),
        ((b"aaaa", b"\1" + bytes(7)), 1, 1),
        ((b"a" * 8, b"\1\0\0\0"), 1, 1),
        ((b"aaaa", b"\1" + bytes(11)), None, 1),
        ((b"a" * 12, b"\1\0\0\0"), 1, 1),
        ((b"aaaa", b"abc"), None, None),
    ],
)
def test_one_phys32_entry_is_read_by_all_and_written_by_repair(
    descs: tuple[bytes, ...], as_it_is: int | None, repaired: int | None
) -> None:
    assert phys32_entry(entries(*descs)) == as_it_is
    assert phys32_entry(entries(*descs), repaired=True) == repaired
    kept = [note for note in safe_notes(entries(*descs)) if (note.owner, note.type) == ("Xen", 18)]
    assert [int.from_bytes(note.desc[:4], "little") for note in kept] == [repaired][: repaired is not None]
    assert all(len(note.desc) in (4, 8) for note in kept)


def test_another_owners_note_18_is_a_fault_only_before_xens() -> None:
    ours, other = Note("Xen", 18, b"\1\0\0\0"), Note("FOO", 18, b"\2\0\0\0")
    assert faults(image(other, ours)) == ("note 18 of owner 'FOO' stands before PHYS32_ENTRY",)
    assert safe_notes(image(other, ours)) == (ours, other)
    assert faults(image(ours, other)) == faults(image(other)) == ()


def test_a_claim_is_read_back() -> None:
    note = CLAIM.pack()
    assert (note.owner, note.type, len(note.desc) % 4) == ("bootbuild", 1, 0)
    assert claims(image(Note("Xen", 1, b""), note)) == (CLAIM,)
    assert claims(image(Note("bootbuild", 2, b"later"))) == ()


def test_a_claim_has_the_documented_bytes() -> None:
    expected = struct.pack("<II5Q", 1, 64, 0xFFFFFFFF81000000, 0x1000000, 0x200000, 0x3E00000, 0x2000)
    assert CLAIM.pack().desc == expected + b"pvh\0linux\0startup_64\0\0\0\0"


def test_a_startup_name_that_cannot_be_written_becomes_its_address() -> None:
    odd = replace(CLAIM, startup=replace(CLAIM.startup, name="s\xe9\udcff"))
    assert ImageClaim.parse(odd.pack()).startup.name == "0xffffffff81000000"


@pytest.mark.parametrize("word", ["", "A", "a b", "a\0b", "x" * 64])
def test_target_and_guest_are_words(word: str) -> None:
    for claim in (replace(CLAIM, target=word), replace(CLAIM, guest=word)):
        with pytest.raises(NoteError):
            claim.pack()


def _desc(change: Callable[[bytes], bytes]) -> Note:
    note = CLAIM.pack()
    return replace(note, desc=change(note.desc), offset=0x40)


BROKEN = {
    "short": _desc(lambda d: d[:47]),
    "version": _desc(lambda d: b"\2" + d[1:]),
    "width": _desc(lambda d: d[:4] + b"\x10" + d[5:]),
    "no ASCII": _desc(lambda d: d[:48] + b"\xff" + d[49:]),
    "two names": _desc(lambda d: d[:48] + b"pvh\0linux\0\0\0"),
    "name without NUL": _desc(lambda d: d[:48] + b"pvh\0linux\0startup_64xx"),
    "no word": _desc(lambda d: d.replace(b"pvh", b"PVH")),
    "control character": _desc(lambda d: d.replace(b"startup_64", b"startup\n64")),
    "more names": _desc(lambda d: d + b"more"),
    "more padding": _desc(lambda d: d + bytes(4)),
}


@pytest.mark.parametrize("note", BROKEN.values(), ids=BROKEN)
def test_any_other_form_of_a_claim_is_refused(note: Note) -> None:
    with pytest.raises(InputError) as caught:
        claims(image(CLAIM.pack(), note, note))
    assert [(p.rule.id, p.where) for p in caught.value.problems] == [("BB-E018", "x.elf@0x40")] * 2


@given(st.binary(max_size=80))
def test_any_bytes_are_a_claim_or_an_error(desc: bytes) -> None:
    try:
        claim = ImageClaim.parse(Note("bootbuild", 1, desc))
    except NoteError:
        return
    assert claim.pack().desc == desc
