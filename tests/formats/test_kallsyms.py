"""A stripped Linux gives the symbols that it carries, in every layout; tables that are damaged give none."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.symbols import origin, read_system_map
from bootbuild.model.content import FileContent, MemoryContent
from kallsyms_kernel import HIGH, INIT, LAYOUTS, TEXT, Kernel, Layout, kernel


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("count", [300, 700, 1018])
def test_every_layout_of_linux_is_read(layout: Layout, count: int) -> None:
    made = kernel(layout, count)
    assert made.read() == made.expected()
    assert made.expected()["twice"] == HIGH[layout.bits] + INIT + 8  # the global
    assert made.expected()["again"] == HIGH[layout.bits] + 4  # the first


@pytest.mark.parametrize("flavour", ["cloud", "generic"])
def test_debians_symbols_are_those_of_vmlinux_to_elf_in_half_a_second(kernels: Any, flavour: str) -> None:
    made = getattr(kernels, flavour)
    want = dict(read_system_map(FileContent(made.system_map), "System.map"))
    content, spent = FileContent(made.vmlinux), []
    for _ in range(3):
        image = read_elf(content, "vmlinux")
        begin = time.process_time()
        found = dict(image.symbols)
        spent.append(time.process_time() - begin)
        assert found == want
    assert min(spent) < 0.5  # 0.1 s on an idle core


def test_nothing_is_searched_before_a_symbol_is_asked_for() -> None:
    read: list[int] = []

    class Counted(MemoryContent):
        def read(self, offset: int, size: int) -> bytes:
            read.append(size)
            return super().read(offset, size)

    image = read_elf(Counted(kernel(LAYOUTS["6.1"]).data), "vmlinux")
    assert max(read) < 0x1000
    assert image.symbols["start_kernel"] == HIGH[64] + INIT
    assert max(read) > 0x1000
    read.clear()
    assert image.symbols["start_kernel"] == HIGH[64] + INIT
    assert not read
    assert "no_such_symbol" not in image.symbols
    assert read


def test_the_origin_of_symbols_is_known() -> None:
    made = kernel(LAYOUTS["6.4"])
    assert origin(read_elf(MemoryContent(made.data), "vmlinux").symbols) == "kallsyms"
    made.data[made.places["token_index"]] ^= 1
    assert origin(read_elf(MemoryContent(made.data), "vmlinux").symbols) == ""
    assert origin({"given": 1}) == ""


def u32(made: Kernel, name: str, index: int, value: int) -> None:
    struct.pack_into("<I", made.data, made.places[name] + 4 * index, value)


def outside(made: Kernel) -> None:
    """Move both segments, as if the tables were those of another kernel."""
    for at in (64 + 16, 64 + 56 + 16):
        (vaddr,) = struct.unpack_from("<Q", made.data, at)
        struct.pack_into("<Q", made.data, at, vaddr + 0x10000000)


def cut(made: Kernel) -> None:
    """End the first segment inside the token index."""
    struct.pack_into("<Q", made.data, 64 + 32, made.places["token_index"] + 256 - TEXT)


def other_token(made: Kernel) -> None:
    at = made.data.index(b"kernel\0", made.places["token_table"])
    made.data[at + 3] = 0


DAMAGE: dict[str, Callable[[Kernel], None]] = {
    "no digits among the tokens": lambda k: k.data.__setitem__(
        slice(k.places["token_table"], k.places["token_index"]),
        bytes(k.data[k.places["token_table"] : k.places["token_index"]]).replace(b"5\x006\0", b"6\x005\0"),
    ),
    "a token more": other_token,
    "another token index": lambda k: k.data.__setitem__(k.places["token_index"] + 400, 0xFF),
    "segment ends in the token index": cut,
    "first marker not 0": lambda k: u32(k, "markers", 0, 1),
    "marker elsewhere": lambda k: u32(k, "markers", 1, 1000),
    "one name less": lambda k: u32(k, "num_syms", 0, len(k.symbols) - 1),
    "one name more": lambda k: u32(k, "num_syms", 0, len(k.symbols) + 1),
    "as many names as fit in 32 bits": lambda k: u32(k, "num_syms", 0, 0xFFFFFFFF),
    "name of no codes": lambda k: k.data.__setitem__(k.places["names"], 0),
    "name of 16383 codes": lambda k: k.data.__setitem__(
        slice(k.places["names"], k.places["names"] + 2), b"\xff\xff"
    ),
    "addresses that do not ascend": lambda k: u32(k, "addresses", 300, 0xFFFFFFFF),
    "another base": lambda k: u32(k, "relative_base", 0, 0x10000000),
    "code outside every segment": outside,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("version", ["6.1", "6.4"])
def test_tables_that_do_not_hold_together_are_none(version: str, damage: Callable[[Kernel], None]) -> None:
    made = kernel(LAYOUTS[version])
    damage(made)
    assert made.read() == {}


def test_a_name_that_is_longer_than_linux_allows_is_no_kernel() -> None:
    layout = Layout(64, "6.4", "percpu", big=True)
    made = kernel(layout)
    assert made.read()
    at = made.data.index(b"Z" * 100, made.places["names"])
    made.data[at : at + 200] = bytes([255]) * 200  # "Tfunction_" two hundred times
    assert made.read() == {}


def test_what_looks_like_tokens_before_the_tables_is_passed_over() -> None:
    made = kernel(LAYOUTS["6.4"])
    for at in range(TEXT, TEXT + 0x400, 20):
        made.data[at : at + 20] = DIGITS
    assert made.read() == made.expected()


DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
#: Tokens and their index without four zeros in a row, so that no markers are near.
DENSE = b"x\0" * 48 + DIGITS + b"x\0" * 198 + struct.pack("<256H", *range(0, 512, 2))
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "nothing but digits": lambda k: DIGITS * ((8 << 20) // len(DIGITS)) + k[:8],
    "tokens behind zeros": lambda k: bytes(8 << 20) + k,
    "tokens behind markers": lambda k: struct.pack("<8192I", *range(0, 8192 * 600, 600)) * 256 + k,
    "tokens behind counts": lambda k: struct.pack("<4I", 0, 600, 300, 300) * (1 << 19) + k,
    "tokens again and again": lambda _: DENSE * ((64 << 20) // len(DENSE)),
    "tokens behind names of one code": lambda k: b"\1" * (8 << 20) + struct.pack("<4I", 0, 512, 1024, 0) + k,
}


@pytest.mark.parametrize("fill", HOSTILE.values(), ids=HOSTILE)
def test_a_file_made_to_waste_time_is_given_up(fill: Callable[[bytes], bytes]) -> None:
    made = kernel(LAYOUTS["6.1"])
    filled = fill(bytes(made.data[made.places["token_table"] : made.places["token_index"] + 512]))
    made.data[TEXT:] = filled
    for at in (32, 40):
        struct.pack_into("<Q", made.data, 64 + at, len(filled))
    made.data += bytes(0x1000)
    struct.pack_into("<Q", made.data, 64 + 56 + 8, TEXT + len(filled))
    struct.pack_into("<Q", made.data, 64 + 56 + 24, 0x20000000)
    begin = time.process_time()
    assert made.read() == {}
    assert time.process_time() - begin < 5


@settings(max_examples=150, deadline=None)
@given(
    version=st.sampled_from(sorted(LAYOUTS)),
    patches=st.lists(
        st.tuples(
            st.sampled_from(["num_syms", "names", "markers", "token_table", "token_index", "addresses"]),
            st.integers(-16, 2048),
            st.binary(min_size=1, max_size=8),
        ),
        max_size=6,
    ),
)
def test_random_damage_gives_symbols_or_none(version: str, patches: list[tuple[str, int, bytes]]) -> None:
    made = kernel(LAYOUTS[version], 300)
    before = bytes(made.data)
    for table, offset, patch in patches:
        at = made.places[table] + offset
        made.data[at : at + len(patch)] = patch
    found = made.read()
    assert all(0 <= address < 1 << LAYOUTS[version].bits for address in found.values())
    if made.data == before:
        assert found == made.expected()
