"""A System.map is read strictly; a symbol that is searched for in .symtab is the one among all of them."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootbuild.errors import InputError
from bootbuild.formats.symbols import MAX_SEARCHES, MAX_SYSTEM_MAP, SymbolTable, read_system_map
from bootbuild.model.content import FileContent, MemoryContent
from bootbuild.model.span import Span


def read(text: bytes) -> dict[str, int]:
    return dict(read_system_map(MemoryContent(text), "System.map"))


def test_lines_of_nm_are_symbols() -> None:
    found = read(b"0000000001000000 T startup_64\nffffffff81000040 t secondary\nc0000000 D data32\n")
    assert found == {"startup_64": 0x1000000, "secondary": 0xFFFFFFFF81000040, "data32": 0xC0000000}


def test_the_last_line_needs_no_end() -> None:
    assert read(b"0000000001000000 T startup_64") == {"startup_64": 0x1000000}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_global_wins_over_a_local_of_the_same_name(order: tuple[int, ...]) -> None:
    lines = (b"00000001 t twice\n", b"00000002 T twice\n", b"00000003 b twice\n")
    assert read(b"".join(lines[i] for i in order)) == {"twice": 2}


BAD = {
    "Debian's notice in the package without debug symbols": (
        b"ffffffffffffffff B The real System.map is in the linux-image-6.1.0-dbg package\n"
    ),
    "short address": b"1000 T startup_64\n",
    "no type": b"0000000001000000 startup_64\n",
    "two spaces": b"0000000001000000  T startup_64\n",
    "no name": b"0000000001000000 T \n",
    "carriage return": b"0000000001000000 T a\r\nb\n",
    "blank line": b"\n",
    "binary": b"\x7fELF\x02\x01\x01",
    "one name too long": b"0000000001000000 T " + b"x" * 4097,
    "empty": b"",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert {problem.rule.id for problem in caught.value.problems} == {"BB-E017"}


def test_bad_lines_are_named_up_to_ten_and_counted() -> None:
    with pytest.raises(InputError) as caught:
        read(b"00000001 t good\n" + b"bad\n" * 1000)
    assert [p.where for p in caught.value.problems] == [
        *(f"System.map:{n}" for n in range(2, 12)),
        "System.map",
    ]
    assert caught.value.problems[-1].message == "990 more lines are not symbols"


def test_an_elf_file_is_said_to_be_one() -> None:
    with pytest.raises(InputError) as caught:
        read(b"\x7fELF\2\1\1\n" * 30)
    (problem,) = caught.value.problems
    assert (problem.rule.id, problem.message) == ("BB-E017", "this is an ELF file, not a System.map")
    assert "kernel with symbols" in problem.remedy


def test_a_map_of_more_than_64_mib_is_refused_unread() -> None:
    class Huge(MemoryContent):
        size = MAX_SYSTEM_MAP + 1

        def read(self, offset: int, size: int) -> bytes:
            raise AssertionError

    with pytest.raises(InputError):
        read_system_map(Huge(b""), "System.map")


def test_a_real_map_gives_the_startup_path(kernels: Any) -> None:
    found = read_system_map(FileContent(kernels.cloud.system_map), "System.map")
    assert found["startup_64"] == kernels.cloud.symbol("startup_64")
    assert len(found) > 50_000


LINES = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1), st.sampled_from("Tta?A"), st.sampled_from(["b", "ab", "abc", "abcd"])
    ),
    min_size=1,
    max_size=12,
)


@given(lines=LINES, last=st.booleans(), moved=st.sampled_from([0, 0x200000]))
def test_one_that_is_searched_for_in_a_map_is_the_one_among_all(
    lines: list[tuple[int, str, str]], last: bool, moved: int
) -> None:
    """Some begin as others do, or end so."""
    text = "".join(f"{value:016x} {kind} {name}\n" for value, kind, name in lines)
    content = MemoryContent(text.removesuffix("\n" if last else "").encode())
    found = dict(read_system_map(content, "System.map", moved))
    assert found.keys() == {name for _, _, name in lines}
    for name in ("b", "ab", "abc", "abcd", "a", "", "bc\n"):
        assert read_system_map(content, "System.map", moved).get(name) == found.get(name)


STRINGS = b"\0startup_64\0init\0_init\0\xc3\xa9t\xc3\xa9\0init\0cut off"
ENTRIES = st.lists(
    st.tuples(
        st.integers(0, len(STRINGS) + 2),  # where the name stands, at any byte
        st.sampled_from([0x00, 0x02, 0x10, 0x12, 0x20, 0x03, 0x14]),  # binding and type
        st.sampled_from([0, 1, 0xFFF1]),  # undefined, a section, absolute
        st.integers(0, 2**32 - 1),
    ),
    max_size=30,
)


@pytest.mark.parametrize("bits", [32, 64])
@given(entries=ENTRIES)
def test_one_that_is_searched_for_is_the_one_among_all(
    bits: int, entries: list[tuple[int, int, int, int]]
) -> None:
    form = struct.Struct("<IIIBBH" if bits == 32 else "<IBBHQQ")
    packed = b"".join(
        form.pack(*((name, value, 0, info, 0, section) if bits == 32 else (name, info, 0, section, value, 0)))
        for name, info, section, value in entries
    )
    content = MemoryContent(packed + STRINGS)

    def table() -> SymbolTable:
        return SymbolTable(content, form, Span(0, len(packed)), Span(len(packed), len(STRINGS)))

    every = dict(table())
    names = {
        STRINGS[at : STRINGS.find(b"\0", at)].decode(errors="surrogateescape") for at in range(len(STRINGS))
    }
    for name in names | every.keys() | {"", "absent", "a\0b", "x" * 5000}:
        assert table().get(name) == every.get(name), name
    searched = table()
    assert [searched.get(name) for name in every] == list(every.values())


def test_who_asks_for_many_reads_all_of_them_once() -> None:
    form = struct.Struct("<IBBHQQ")
    names = [f"symbol{index}" for index in range(20)]
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
    packed = b"".join(
        form.pack(strings.find(b"%s\0" % n.encode()), 0x10, 0, 1, i, 0) for i, n in enumerate(names)
    )

    class Counted(MemoryContent):
        reads = 0

        def read(self, offset: int, size: int) -> bytes:
            self.reads += 1
            return super().read(offset, size)

    content = Counted(packed + strings)
    table = SymbolTable(content, form, Span(0, len(packed)), Span(len(packed), len(strings)))
    assert [table[name] for name in names] == list(range(20))
    assert content.reads == 2 * (MAX_SEARCHES + 1)
    assert [table[name] for name in names] == list(range(20))
    assert content.reads == 2 * (MAX_SEARCHES + 1)


def test_a_name_that_is_everywhere_in_the_strings_is_found_in_time() -> None:
    form = struct.Struct("<IBBHQQ")
    strings = b"\0" + b"a\0" * 100_000
    packed = b"".join(form.pack(1 + 2 * index, 0x10, 0, 1, index, 0) for index in range(100_000))
    content = MemoryContent(packed + strings)
    found = SymbolTable(content, form, Span(0, len(packed)), Span(len(packed), len(strings)))
    began = time.process_time()
    assert found["a"] == 0
    assert time.process_time() - began < 5
