"""The linker of stubs: where things go, what symbols mean, and what it refuses."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from bootbuild.errors import PluginError
from bootbuild.model.blob import Blob, Fixup
from bootbuild.model.payload import Words
from bootbuild.model.span import Span
from bootbuild.model.waist import Piece, Waist
from bootbuild.stubs.link import Params, extent, link

TEXT, BSS = 0x200000, 0x300000
Make = Callable[..., Blob]


def piece(blob: Blob, entry: str = "") -> Piece:
    return Piece(blob, entry or f"{blob.name}_entry", Waist(32), Waist(32))


def params(**changes: Any) -> Params:
    values: dict[str, Any] = {"startup": 0x100000, "stub": Span(TEXT, 0x200000)}
    return Params(**(values | changes))


def refusals(chain: list[Piece], companions: list[Blob], given: Params) -> set[tuple[str, str]]:
    with pytest.raises(PluginError) as caught:
        link(chain, companions, given, TEXT, BSS)
    problems = caught.value.problems
    assert len(set(problems)) == len(problems)
    return {(problem.rule.id, f"{problem.where}: {problem.message}") for problem in problems}


def test_stubs_follow_each_other_at_their_alignment_and_params_come_last(blob: Make) -> None:
    chain = [piece(blob("a", text=b"\x90" * 17)), piece(blob("b", align=64))]
    companion = blob("c", text=b"\xc3")
    linked = link(chain, [companion], params(), TEXT, BSS)
    assert linked.exports == {
        "a_entry": TEXT,
        "b_entry": TEXT + 64,
        "c_entry": TEXT + 80,
        "bb_params": TEXT + 88,
    }
    assert linked.text[:17] == b"\x90" * 17
    assert linked.text[17:64] == bytes(47)
    assert linked.text[80:81] == b"\xc3"


def test_nobits_follow_each_other_at_their_alignment(blob: Make) -> None:
    chain = [
        piece(blob("a", bss_size=5, exports={"a_entry": (".text", 0), "a_bss": (".bss", 4)})),
        piece(
            blob("b", bss_size=4096, bss_align=4096, exports={"b_entry": (".text", 0), "b_bss": (".bss", 0)})
        ),
    ]
    linked = link(chain, [], params(), TEXT, BSS)
    assert linked.exports["a_bss"] == BSS + 4
    assert linked.exports["b_bss"] == BSS + 4096
    assert linked.bss_size == 8192


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_extent_is_what_linking_takes(count: int, blob: Make) -> None:
    chain = [piece(blob("a", text=b"\x90" * 3, bss_size=3)), piece(blob("b", bss_size=9, bss_align=256))]
    zero = tuple(Span(0x1000 * i, 16) for i in range(count))
    size = extent(chain, [blob("c")], count)
    linked = link(chain, [blob("c")], params(zero=zero), TEXT, BSS)
    assert (size.text_size, size.bss_size) == (len(linked.text), linked.bss_size)
    assert size.align == 256


@pytest.mark.parametrize("size", [4, 8])
def test_the_table_of_fixups_names_every_word_that_holds_an_address(size: int, blob: Make) -> None:
    absolute = (
        Fixup(1, "abs32", ".text", 0),
        Fixup(6, "abs32s", "bb_params", 0),
        Fixup(8, "abs64", ".bss", 0),
    )
    user = blob("a", fixups=(*absolute, Fixup(12, "pc32", "bb_fixups", -4)), bss_size=4)
    chain, companions = [piece(blob("first")), piece(user)], [blob("c", fixups=absolute[:1])]
    given = params(
        zero=(Span(0x101000, 0x10), Span(0x108000, 0x10)), addresses=Words((0x100003, 0x1FF), size)
    )
    linked = link(chain, companions, given, TEXT, BSS)
    at = linked.exports["bb_fixups"] - TEXT
    block = linked.exports["bb_params"]
    words = {
        4: [TEXT + 16 + 1, TEXT + 16 + 6, TEXT + 32 + 1],
        8: [*(block + place for place in (0, 8, 24, 32, 0x50, 0x60)), TEXT + 16 + 8],
    }
    words[size] += [0x100003, 0x1FF]
    assert struct.unpack_from("<II", linked.text, at) == (len(words[4]), len(words[8]))
    found = struct.unpack(f"<{len(words[4]) + len(words[8])}I", linked.text[at + 8 :])
    assert found == (*words[4], *words[8])
    assert extent(chain, companions, 2, given.addresses).text_size == len(linked.text)


def test_an_image_that_stays_has_no_table(blob: Make) -> None:
    user = blob("a", fixups=(Fixup(0, "pc32", "bb_fixups", -4),))
    assert refusals([piece(user)], [], params()) == {
        ("BB-P022", "a: refers to bb_fixups, which no stub exports")
    }
    linked = link([piece(user)], [], params(addresses=Words()), TEXT, BSS)
    assert struct.unpack_from("<i", linked.text, 0) == (linked.exports["bb_fixups"] - TEXT - 4,)


def test_a_kernel_that_is_mapped_elsewhere_cannot_be_moved(blob: Make) -> None:
    given = params(mapping=(0xFFFFFFFF80000000, 0, 0x400000), addresses=Words())
    ((rule, text),) = refusals([piece(blob("a", width=64))], [], given)
    assert (rule, "is of an image that may be moved" in text) == ("BB-P026", True)


def test_params_are_packed_as_waist_h_has_them(blob: Make) -> None:
    given = Params(
        startup=0xFFFFFFFF80100000,
        stub=Span(0x200000, 0x3000),
        load_offset=-4096,
        mapping=(0xFFFFFFFF80000000, 0, 0x400000),
        zero=(Span(0x101000, 0x2000), Span(0x108000, 0x10)),
    )
    chain = [piece(blob("a", width=64, bss_size=32))]
    linked = link(chain, [], given, TEXT, BSS)
    block = linked.text[linked.exports["bb_params"] - TEXT :]
    assert struct.unpack("<3Qq5QII4Q", block) == (
        0xFFFFFFFF80100000,
        0x200000,
        0x3000,
        -4096,
        BSS,
        32,
        0xFFFFFFFF80000000,
        0,
        0x400000,
        2,
        0,
        0x101000,
        0x2000,
        0x108000,
        0x10,
    )


def test_without_a_mapping_its_fields_are_zero(blob: Make) -> None:
    linked = link([piece(blob("a"))], [], params(), TEXT, BSS)
    assert struct.unpack_from("<3Q", linked.text, linked.exports["bb_params"] - TEXT + 0x30) == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "symbol", "addend", "expected"),
    [
        ("abs32", ".text", 8, struct.pack("<I", TEXT + 24)),
        ("abs32", ".bss", 8, struct.pack("<I", BSS + 8)),
        ("abs32s", "other_entry", 0, struct.pack("<i", TEXT)),
        ("abs64", "other_entry", -1, struct.pack("<Q", TEXT - 1)),
        ("pc32", "other_entry", -4, struct.pack("<i", -16 - 4 - 4)),
        ("abs32", "bb_params", 0x20, struct.pack("<I", TEXT + 32 + 0x20)),
    ],
)
def test_a_fixup_is_filled_in(kind: Any, symbol: str, addend: int, expected: bytes, blob: Make) -> None:
    user = blob("user", fixups=(Fixup(4, kind, symbol, addend),))
    linked = link([piece(blob("other")), piece(user)], [], params(), TEXT, BSS)
    at = 16 + 4
    assert linked.text[at : at + len(expected)] == expected
    rest = linked.text[16:at] + linked.text[at + len(expected) : 32]
    assert rest == b"\x90" * len(rest), "a byte beside the fixup was changed"


def test_bb_next_is_the_entry_of_the_following_piece(blob: Make) -> None:
    jump = (Fixup(0, "abs32", "bb_next", 0),)
    exports = {"c_entry": (".text", 0), "inner": (".text", 12)}
    chain = [
        piece(blob("a", fixups=jump)),
        piece(blob("b", fixups=jump)),
        piece(blob("c", exports=exports), "inner"),
    ]
    linked = link(chain, [], params(), TEXT, BSS)
    assert struct.unpack_from("<I", linked.text, 0) == (TEXT + 16,)
    assert struct.unpack_from("<I", linked.text, 16) == (TEXT + 32 + 12,)


def test_a_symbol_that_nothing_exports_is_refused(blob: Make) -> None:
    user = blob("user", fixups=(Fixup(0, "abs32", "nowhere", 0), Fixup(8, "pc32", "bb_next", 0)))
    assert refusals([piece(user)], [], params()) == {
        ("BB-P022", "user: refers to nowhere, which no stub exports"),
        ("BB-P022", "user: jumps to bb_next, but no piece follows it"),
    }


def test_a_companion_has_no_next_piece(blob: Make) -> None:
    companion = blob("post", fixups=(Fixup(0, "abs32", "bb_next", 0),))
    assert refusals([piece(blob("a")), piece(blob("b"))], [companion], params()) == {
        ("BB-P022", "post: jumps to bb_next, but no piece follows it")
    }


def test_two_exports_of_one_name_are_refused(blob: Make) -> None:
    other = blob("b", exports={"b_entry": (".text", 0), "a_entry": (".text", 4)})
    own = blob("c", exports={"bb_params": (".text", 0)})
    assert refusals([piece(blob("a")), piece(other)], [own], params()) == {
        ("BB-P023", "b: exports a_entry, and so does a"),
        ("BB-P023", "c: exports bb_params, and so does bootbuild"),
    }


@pytest.mark.parametrize(
    ("kind", "addend", "value"),
    [
        ("abs32", 1 << 32, 0x100200000),
        ("abs32", -0x200001, -1),
        ("abs32s", 0x7FE00000, 0x80000000),
        ("pc32", 1 << 31, 0x80200000),
        ("abs64", -0x200001, -1),
    ],
)
def test_an_address_that_does_not_fit_is_refused(kind: Any, addend: int, value: int, blob: Make) -> None:
    user = blob("user", fixups=(Fixup(0, kind, ".text", addend),))
    assert refusals([piece(user)], [], params()) == {
        ("BB-P024", f"user: .text at {value:#x} does not fit the {kind} at +0x0")
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stub": Span(0xFFFFF000, 0x2000)}, "stub range 0xfffff000-0x100001000 is not below 4 GiB"),
        ({"zero": (Span(1 << 32, 1),)}, "zero range 0x100000000-0x100000001 is not below 4 GiB"),
        ({"startup": 1 << 32}, "startup path at 0x100000000 is out of the reach of its width"),
        ({"startup": -1}, "startup path at -0x1 is out of the reach of its width"),
    ],
)
def test_what_lies_beyond_a_stubs_reach_is_refused(changes: dict[str, Any], message: str, blob: Make) -> None:
    assert refusals([piece(blob("a"))], [], params(**changes)) == {("BB-P024", f"params: {message}")}


@pytest.mark.parametrize("entry", ["missing", "in_bss"])
def test_an_entry_that_is_not_exported_code_is_refused(entry: str, blob: Make) -> None:
    one = blob("a", bss_size=4, exports={"in_bss": (".bss", 0)})
    assert refusals([piece(one, entry)], [], params()) == {("BB-P025", f"a: {entry} is not exported code")}


@pytest.mark.parametrize(
    ("mapping", "complaint"),
    [
        ((0xFFFFFFFF80000000, 0x100000, 0x1000), "does not agree modulo 2 MiB"),
        ((0xFFFFFFFF80000000, 0, 0), "is empty"),
        ((0xFFFFFFFF80000000, 0, (1 << 30) + 1), "is larger than 1 GiB"),
        ((0xFFFFFFFF80001000, 0x1000, 1 << 30), "is larger than 1 GiB"),
        ((0x80000000, 0, 0x1000), "overlaps the identity map of the first 4 GiB"),
        ((0x800000000000, 0, 0x1000), "is not canonical"),
        ((0x7FFFFFE00000, 0, 0x200001), "is not canonical"),
        ((0xFFFF7FFFFFE00000, 0, 0x1000), "is not canonical"),
        ((0xFFFFFFFFFFE00000, 0, 0x200001), "is not canonical"),
    ],
)
def test_a_mapping_that_no_page_table_has_is_refused(
    mapping: tuple[int, int, int], complaint: str, blob: Make
) -> None:
    ((rule, message),) = refusals([piece(blob("a", width=64))], [], params(mapping=mapping))
    assert rule == "BB-P026"
    assert message.endswith(complaint)


@pytest.mark.parametrize(
    "mapping",
    [
        (0xFFFFFFFF80000000, 0, 1 << 30),
        (0xFFFFFFFFC0000000, 0, 1 << 30),
        (0xFFFF800000000000, 0x200000, 1),
        (0x7FFFFFE00000, 0, 0x200000),
        (1 << 32, 0, 4096),
    ],
)
def test_a_mapping_at_the_edge_is_taken(mapping: tuple[int, int, int], blob: Make) -> None:
    link([piece(blob("a", width=64))], [], params(mapping=mapping), TEXT, BSS)


def test_all_problems_come_at_once(blob: Make) -> None:
    one = blob("a", fixups=(Fixup(0, "abs32", "nowhere", 0),), exports={"bb_next": (".text", 0)})
    given = params(mapping=(0x80000000, 0, 0x1000))
    assert {rule for rule, _ in refusals([piece(one)], [], given)} == {
        "BB-P022",
        "BB-P023",
        "BB-P025",
        "BB-P026",
    }
