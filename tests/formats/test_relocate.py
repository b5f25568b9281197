"""A static PIE is moved to where it will lie, and its words with it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from bootbuild.model.payload import PT_LOAD
from peak_memory import peak
from pies import (
    HIGH,
    JMPREL,
    MIB,
    MILLION,
    PLTRELSZ,
    RELR,
    RELRENT,
    RELRSZ,
    RELSZ,
    changed,
    opened,
    pie,
    rela,
    relr,
    words,
)


def test_rela_words_are_addends_plus_the_way_it_moved(tmp_path: Path) -> None:
    kernel = opened(tmp_path, pie(relocations=rela((0x100, 8, 0x10), (0x108, 8, -1), (0x110, 0, 9))))
    assert words(kernel)[:3] == (2 * MIB + 0x10, 2 * MIB - 1, 0x112)
    (load,) = kernel.elf.loads
    assert (load.vaddr, load.paddr, kernel.elf.entry) == (2 * MIB, 2 * MIB, 2 * MIB + 0x10)
    assert kernel.changes == ("moved from 0x0 to 0x200000", "2 relative relocations applied")


def test_where_a_pie_holds_addresses_is_told(tmp_path: Path) -> None:
    """Physical, where it now lies; and of a kernel that is no PIE nobody knows it."""
    table = rela((0x100, 8, 0x10), (0x108, 8, -1), (0x110, 0, 9))
    found = opened(tmp_path, pie(relocations=table)).addresses
    assert found is not None
    assert (list(found.places), found.size) == ([2 * MIB + 0x100, 2 * MIB + 0x108], 8)
    narrow = opened(tmp_path, pie(32, relocations=struct.pack("<II", 0x104, 8)), load=5 * MIB).addresses
    assert narrow is not None
    assert (list(narrow.places), narrow.size) == ([5 * MIB + 0x104], 4)
    without = opened(tmp_path, pie(base=MIB)).addresses
    assert without is not None
    assert list(without.places) == []
    executable = changed(pie(base=MIB), 16, 0x3E0002)  # e_type, e_machine
    assert opened(tmp_path, executable).addresses is None


def test_rel_words_are_added_to_and_not_again_by_the_kernel(tmp_path: Path) -> None:
    kernel = opened(tmp_path, pie(32, relocations=struct.pack("<IIII", 0x100, 8, 0x11C, 8)))
    assert words(kernel, 32) == (2 * MIB + 0x110, *range(0x111, 0x117), 2 * MIB + 0x117)
    (load,) = kernel.elf.loads
    tags = kernel.elf.content.read(load.offset + 0x400, 24)
    assert dict(struct.iter_unpack("<II", tags))[RELSZ] == 0


def test_rel_of_a_jump_table_is_not_added_again_either(tmp_path: Path) -> None:
    table = struct.pack("<II", 0x100, 8)
    kernel = opened(tmp_path, pie(32, relocations=table, dynamic={JMPREL: 0x200, PLTRELSZ: 8}))
    (load,) = kernel.elf.loads
    assert words(kernel, 32)[0] == 2 * MIB + 0x110
    tags = kernel.elf.content.read(load.offset + 0x400, 16)
    assert dict(struct.iter_unpack("<II", tags)) == {JMPREL: 0x200, PLTRELSZ: 0}


def test_relr_bitmaps_name_the_words_behind_an_address(tmp_path: Path) -> None:
    table = struct.pack("<QQ", 0x100, 0b1011)  # 0x100, then words 0 and 2 behind it
    dynamic = {RELR: 0x200, RELRSZ: len(table), RELRENT: 8}
    kernel = opened(tmp_path, pie(relocations=table, dynamic=dynamic))
    moved = [index for index, word in enumerate(words(kernel)) if word != 0x110 + index]
    assert moved == [0, 1, 3]


def test_a_pie_at_a_good_address_stays_there(tmp_path: Path) -> None:
    kernel = opened(tmp_path, pie(base=MIB, relocations=rela((MIB + 0x100, 8, MIB + 5))))
    assert (kernel.elf.entry, words(kernel)[0]) == (MIB + 0x10, MIB + 5)
    assert kernel.changes == ("1 relative relocations applied",)


def test_load_moves_a_pie(tmp_path: Path) -> None:
    kernel = opened(tmp_path, pie(relocations=rela((0x100, 8, 1))), load=64 * MIB)
    assert words(kernel)[0] == 64 * MIB + 1


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("at", [0, -0x1000], ids=["lowest", "highest"])
@pytest.mark.parametrize("load", [2 * MIB, 8 * MIB])
def test_a_segment_of_no_bytes_has_no_address_to_move(load: int, at: int, bits: int, tmp_path: Path) -> None:
    """GNU ld leaves one where a linker script's header gets no section."""
    data, at = bytearray(pie(bits, base=4 * MIB)), at % (1 << bits)
    if bits == 64:
        struct.pack_into("<IIQQQQQQ", data, 64 + 56, 1, 4, 0, at, at, 0, 0, 0x1000)
    else:
        struct.pack_into("<IIIIIIII", data, 52 + 32, 1, 0, at, at, 0, 0, 4, 0x1000)
    kernel = opened(tmp_path, bytes(data), load=load)
    assert [(s.type, s.vaddr) for s in kernel.elf.segments] == [(PT_LOAD, load), (0, at)]


def test_an_entry_may_be_physical(tmp_path: Path) -> None:
    """As Linux's is."""
    data = bytearray(pie(32, base=MIB))
    struct.pack_into("<I", data, 52 + 8, HIGH + MIB)
    struct.pack_into("<I", data, 52 + 32, 0)
    kernel = opened(tmp_path, bytes(data), load=2 * MIB)
    assert (kernel.elf.entry, kernel.elf.loads[0].vaddr) == (2 * MIB + 0x10, HIGH + 2 * MIB)


def test_what_no_relocation_changes_is_not_copied_into_memory(tmp_path: Path) -> None:
    data = pie(relocations=rela((0x100, 8, 1)))
    kernel = opened(tmp_path, data)
    (load,) = kernel.elf.loads
    assert kernel.elf.content.read(load.offset + 0x140, 0xC0) == data[0x1140:0x1200]


def test_a_million_relocations_are_applied_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(relr(MILLION // 63, MILLION))
    before = "from bootbuild.formats.payload import open_payload\nfrom pathlib import Path"
    code = f"print(open_payload(Path({str(tmp_path / 'kernel')!r})).changes[1])"
    grown, said = peak(before, code)
    assert said == f"{1 + MILLION // 63 * 63} relative relocations applied"
    assert grown < 64 * MIB  # the segment has 8 MiB; a list of the words would have 100


def test_a_segment_with_relocations_is_in_memory_once(tmp_path: Path) -> None:
    data = bytearray(pie(relocations=rela((0x100, 8, 1))))
    struct.pack_into("<QQ", data, 64 + 32, 128 * MIB, 128 * MIB)
    (tmp_path / "kernel").write_bytes(data)
    os.truncate(tmp_path / "kernel", 129 * MIB)
    before = "from bootbuild.formats.payload import open_payload\nfrom pathlib import Path"
    grown, said = peak(before, f"print(open_payload(Path({str(tmp_path / 'kernel')!r})).changes[1])")
    assert said == "1 relative relocations applied"
    assert grown < 160 * MIB
