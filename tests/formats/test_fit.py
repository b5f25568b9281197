"""What a recipe may say of a payload beside its file, and every way in which that does not fit."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import InputError
from bootbuild.formats.elf_fresh import Part, fresh, rewrap
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.payload import Fit, Opened, open_payload
from bootbuild.formats.raw import read_raw
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import PT_LOAD, Segment
from peak_memory import peak

MIB = 1 << 20
HIGH = 0xC0000000
# Tags of PT_DYNAMIC: gABI chapter 5
RELA, RELASZ, RELAENT, REL, RELSZ, RELENT, NEEDED = 7, 8, 9, 17, 18, 19, 1
RELR, RELRSZ, RELRENT = 36, 35, 37
JMPREL, PLTRELSZ = 23, 2

Table = Mapping[int, int]


def pie(
    bits: int = 64,
    *,
    base: int = 0,
    relocations: bytes = b"",
    dynamic: Table | None = None,
    filesz: int | None = None,
    tables: int = 1,
) -> bytes:
    """An ET_DYN of one PT_LOAD at `base`: words at +0x100, relocations at +0x200, PT_DYNAMIC at +0x400."""
    word = "<I" if bits == 32 else "<Q"
    pair = "<II" if bits == 32 else "<QQ"
    if dynamic is None:
        tag, size, entry = (REL, RELSZ, RELENT) if bits == 32 else (RELA, RELASZ, RELAENT)
        dynamic = {tag: base + 0x200, size: len(relocations), entry: 8 if bits == 32 else 24}
    body = bytearray(0x600)
    for index in range(8):
        struct.pack_into(word, body, 0x100 + index * bits // 8, 0x110 + index)
    body[0x200 : 0x200 + len(relocations)] = relocations
    packed = b"".join(struct.pack(pair, *item) for item in [*dynamic.items(), (0, 0)])
    body[0x400 : 0x400 + len(packed)] = packed
    ehsize, phsize = {32: (52, 32), 64: (64, 56)}[bits]
    headers: list[tuple[int, ...]] = [
        (1, 7, 0x1000, base, base, len(body) if filesz is None else filesz, 0x2000, 0x1000)
    ]
    headers += [(2, 6, 0x1400, base + 0x400, base + 0x400, len(packed), len(packed), 8)] * tables
    out = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    layout = {32: "<HHIIIIIHHHHHH", 64: "<HHIQQQIHHHHHH"}[bits]
    out += struct.pack(
        layout, 3, {32: 3, 64: 62}[bits], 1, base + 0x10, ehsize, 0, 0, ehsize, phsize, len(headers), 0, 0, 0
    )
    for type_, flags, *rest, align in headers:
        out += (
            struct.pack("<IIQQQQQQ", type_, flags, *rest, align)
            if bits == 64
            else struct.pack("<IIIIIIII", type_, *rest, flags, align)
        )
    return out.ljust(0x1000, b"\0") + body


def rela(*entries: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<QQq", *entry) for entry in entries)


def changed(data: bytes, at: int, value: int) -> bytes:
    """`data` with another 32-bit number."""
    return data[:at] + struct.pack("<I", value) + data[at + 4 :]


def overlapping(vaddr: int) -> bytes:
    """A PIE with a second PT_LOAD, of eight bytes of the first, at another physical address."""
    data = bytearray(pie())
    struct.pack_into("<IIQQQQQQ", data, 64 + 56, 1, 6, 0x1400, vaddr, 0x4000, 8, 0x1000, 8)
    return bytes(data)


def xen_entry(value: int, kind: int = 18, high: int = 0) -> bytes:
    """A PIE at 1 MiB whose second header, in place of PT_DYNAMIC, leads to a Xen note of `value`.

    It is linked `high` above where it is loaded.
    """
    data = bytearray(pie(32, base=MIB))
    struct.pack_into("<IIIIIIII", data, 52 + 32, 4, 0x1500, MIB + 0x500, MIB + 0x500, 20, 20, 4, 4)
    struct.pack_into("<III4sI", data, 0x1500, 4, 4, kind, b"Xen\0", value)
    struct.pack_into("<I", data, 24, high + MIB + 0x10)
    struct.pack_into("<I", data, 52 + 8, high + MIB)
    return bytes(data)


def in_a_section(data: bytes) -> bytes:
    """The same, but the note stands in an SHT_NOTE section, and no PT_NOTE leads to it."""
    out = bytearray(data)
    struct.pack_into("<I", out, 52 + 32, 0)
    struct.pack_into("<I", out, 32, len(out))
    struct.pack_into("<HHH", out, 46, 40, 2, 0)
    return bytes(out) + bytes(40) + struct.pack("<10I", 0, 7, 0, 0, 0x1500, 20, 0, 0, 4, 0)


def opened(tmp_path: Path, data: bytes, **fit: Any) -> Opened:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    return open_payload(path, Fit(**fit))


def words(kernel: Opened, bits: int = 64) -> Sequence[int]:
    """The eight words of `pie`, as a loader puts them into memory."""
    (load,) = kernel.elf.loads
    data = kernel.elf.content.read(load.offset + 0x100, bits)
    return struct.unpack("<8I" if bits == 32 else "<8Q", data)


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


MILLION = 1 << 20


def relr(bitmaps: int, words: int) -> bytes:
    """A PIE with an address and that many full bitmaps, of a segment of so many words behind the table."""
    table = struct.pack("<Q", 0x800 + 8 * (bitmaps + 1)) + b"\xff" * 8 * bitmaps
    data = bytearray(pie(dynamic={RELR: 0x800, RELRSZ: len(table), RELRENT: 8})).ljust(0x1800, b"\0") + table
    size = len(data) - 0x1000 + 8 * words
    struct.pack_into("<QQ", data, 64 + 32, size, size)
    return bytes(data) + bytes(8 * words)


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


REFUSED_PIES = {
    "too many words in one table": (
        relr(MILLION // 63 + 1, MILLION + 64),
        {},
        "BB-E041",
        "more than 1048576 relocations",
    ),
    "two segments at one address": (
        overlapping(0x1000),
        {},
        "BB-E040",
        "segments at virtual 0x0-0x2000 and 0x1000-0x2000 overlap",
    ),
    "two segments of one place in the file": (
        overlapping(0x4000),
        {},
        "BB-E040",
        "segments at file offsets 0x1000-0x1600 and 0x1400-0x1408 overlap",
    ),
    "another relocation": (pie(relocations=rela((0x100, 6, 0))), {}, "BB-E040", "type 6 at 0x100"),
    "a shared library": (pie(dynamic={NEEDED: 1}), {}, "BB-E040", "needs a shared library"),
    "a word in .bss": (
        pie(relocations=rela((0x1800, 8, 0))),
        {},
        "BB-E040",
        "changes 0x1800, where no segment has bytes",
    ),
    "a word across the end": (
        pie(relocations=rela((0x5FC, 8, 0))),
        {},
        "BB-E040",
        "changes 0x5fc, where no segment has bytes",
    ),
    "an entry outside": (
        changed(pie(32, base=MIB), 24, 0xFFFFFFF0),
        {"load": 2 * MIB},
        "BB-E040",
        "e_entry 0xfffffff0 lies outside it and cannot be moved",
    ),
    "no multiple of p_align": (pie(), {"load": 2 * MIB + 0x10}, "BB-E040", "no multiple of its p_align"),
    "above 4 GiB": (pie(), {"load": 1 << 32}, "BB-E040", "it does not lie below 4 GiB"),
    "a table outside": (
        pie(dynamic={RELA: 0x10000, RELASZ: 24, RELAENT: 24}),
        {},
        "BB-E041",
        "lie outside the file",
    ),
    "entries of another size": (
        pie(dynamic={RELA: 0x200, RELASZ: 24, RELAENT: 16}),
        {},
        "BB-E041",
        "whose size is not 24",
    ),
    "half an entry": (
        pie(dynamic={RELA: 0x200, RELASZ: 25, RELAENT: 24}),
        {},
        "BB-E041",
        "whose size is not 24",
    ),
    "two dynamic tables": (pie(tables=2), {}, "BB-E041", "2 tables"),
    "raw options": (pie(), {"bss": 1, "entry": 1}, "BB-E043", "entry, bss: the payload is elf"),
}


@pytest.mark.parametrize(
    ("load", "remedy"),
    [
        (2 * MIB + 0x10, "give a `load` that is, such as 0x200000 or 0x201000"),
        (1 << 32, "give a lower `load` in [payload]"),
    ],
)
def test_a_load_that_does_not_fit_is_told_one_that_does(load: int, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, pie(), load=load)
    assert [problem.remedy for problem in caught.value.problems] == [remedy]


@pytest.mark.parametrize("name", REFUSED_PIES)
def test_a_pie_that_cannot_be_relocated_is_refused(name: str, tmp_path: Path) -> None:
    data, fit, rule, said = REFUSED_PIES[name]
    assert_refused(rule, said, lambda: opened(tmp_path, data, **fit))


@pytest.mark.parametrize("value", [0x1000, 0xFFFFFFF0])
def test_an_address_outside_a_pie_does_not_move_with_it(value: int, tmp_path: Path) -> None:
    noted = opened(tmp_path, xen_entry(value), load=2 * MIB).elf
    assert noted.xen_notes[0].desc == struct.pack("<I", value)
    inside = opened(tmp_path, xen_entry(MIB + 0x10), load=2 * MIB).elf
    assert inside.xen_notes[0].desc == struct.pack("<I", 2 * MIB + 0x10)
    stray = opened(tmp_path, changed(xen_entry(0), 52 + 32 + 8, value), load=2 * MIB).elf
    assert (stray.segments[0].vaddr, stray.segments[1].vaddr) == (2 * MIB, value)


@pytest.mark.parametrize("form", [bytes, in_a_section], ids=["PT_NOTE", "SHT_NOTE"])
@pytest.mark.parametrize(
    ("kind", "value", "moved"),
    [
        (18, MIB + 0x10, 2 * MIB + 0x10),  # PHYS32_ENTRY is physical
        (18, HIGH + MIB + 0x10, HIGH + MIB + 0x10),
        (1, HIGH + MIB + 0x10, HIGH + 2 * MIB + 0x10),  # ENTRY and HYPERCALL_PAGE are virtual
        (2, HIGH + MIB + 0x600, HIGH + 2 * MIB + 0x600),
        (1, MIB + 0x10, MIB + 0x10),
        (3, HIGH + MIB, HIGH + MIB),  # VIRT_BASE is the address of physical 0
    ],
)
def test_notes_of_a_kernel_linked_high_move_by_where_they_lead(
    kind: int, value: int, moved: int, form: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    kernel = opened(tmp_path, form(xen_entry(value, kind, HIGH)), load=2 * MIB)
    assert [(n.type, n.desc) for n in kernel.elf.xen_notes] == [(kind, struct.pack("<I", moved))]
    assert kernel.moved == MIB


def assert_refused(rule: str, said: str, call: Callable[[], object]) -> None:
    with pytest.raises(InputError) as caught:
        call()
    (problem,) = caught.value.problems
    assert problem.rule.id == rule
    assert said in problem.message


def test_a_raw_kernel_is_one_segment_at_its_address(tmp_path: Path) -> None:
    kernel = opened(tmp_path, b"code and data", load=MIB, entry=MIB + 5, bss=100, width=32)
    (load,) = kernel.elf.loads
    assert (kernel.format, kernel.elf.bits, kernel.elf.entry) == ("raw", 32, MIB + 5)
    assert (load.paddr, load.vaddr, load.filesz, load.memsz, load.flags) == (MIB, MIB, 13, 113, 7)
    assert kernel.elf.content.read(load.offset, 13) == b"code and data"


@pytest.mark.parametrize(
    ("align", "kept"),
    [(0, 0), (8, 8), (0x4000, 0x4000), (2 * MIB, 2 * MIB), (1 << 30, 2 * MIB), (0x3000, 0x1000)],
)
def test_the_other_class_keeps_p_align_and_offsets_agree_with_it(
    align: int, kept: int, tmp_path: Path, elf: Any
) -> None:
    if elf.bits == 64:
        for header in elf.phdrs[:2]:
            header["p_vaddr"] = header["p_paddr"]
        elf.ehdr["e_entry"] = elf.phdrs[0]["p_vaddr"]
    elf.phdrs[1] |= {"p_filesz": 0, "p_align": align}
    elf.phdrs[0]["p_align"] = align
    kernel = opened(tmp_path, bytes(elf), elf_class=96 - elf.bits).elf
    code, data = kernel.loads
    assert (code.align, data.align) == (kept, kept)
    assert all((s.offset - s.vaddr) % max(kept, 0x1000) == 0 for s in (code, data))
    assert kernel.content.read(code.offset, code.filesz) == bytes(range(0x80))
    assert kernel.content.size <= max(kept, 0x1000) + 0x2000


def test_a_raw_kernel_of_4_gib_does_not_fit_elf32(tmp_path: Path) -> None:
    class Huge(MemoryContent):
        size = 1 << 32

    assert_refused("BB-E044", "segment at 0x0-0x100000000", lambda: read_raw(Huge(b""), "x", 0, None, 0, 32))
    half = Part(Segment(PT_LOAD, 7, 0, 0, 0, 1 << 31, 1 << 31, 0x1000), Huge(b""), 0)
    assert_refused("BB-E044", "file offset 0x100001000", lambda: fresh(32, 0, [half, half, half], "x"))


REFUSED_RAW: dict[str, tuple[bytes, dict[str, int], str]] = {
    "empty": (b"", {"load": MIB}, "the file is empty"),
    "above 4 GiB": (b"code", {"load": (1 << 32) - 2}, "end above 4 GiB"),
    "zeros above 4 GiB": (b"code", {"load": MIB, "bss": 1 << 32}, "end above 4 GiB"),
    "entry before": (b"code", {"load": MIB, "entry": MIB - 1}, "entry 0xfffff is outside"),
    "entry behind": (b"code", {"load": MIB, "entry": MIB + 4}, "entry 0x100004 is outside"),
}


@pytest.mark.parametrize("name", REFUSED_RAW)
def test_a_raw_kernel_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    data, fit, said = REFUSED_RAW[name]
    assert_refused("BB-E042", said, lambda: opened(tmp_path, data, **fit))


def test_without_load_a_raw_kernel_is_unknown(tmp_path: Path) -> None:
    assert_refused("BB-E030", "begins with", lambda: opened(tmp_path, b"code and data"))


def test_load_is_not_for_a_kernel_linked_at_an_address(tmp_path: Path, elf64: Any) -> None:
    assert_refused("BB-E043", "load: ", lambda: opened(tmp_path, bytes(elf64), load=MIB))


def test_paddr_offset_mends_every_load(tmp_path: Path, elf64: Any) -> None:
    for header in elf64.phdrs:
        header["p_paddr"] = header["p_vaddr"]
    kernel = opened(tmp_path, bytes(elf64), paddr_offset=0xFFFFFFFF80000000)
    assert [s.paddr for s in kernel.elf.loads] == [0x100000, 0x100100]
    assert kernel.changes == ("p_paddr of 2 segments set to p_vaddr - 0xffffffff80000000",)
    assert kernel.elf.symbols["startup_64"] == 0xFFFFFFFF80100000


def test_a_paddr_offset_that_is_wrong_is_refused(tmp_path: Path, elf64: Any) -> None:
    assert_refused(
        "BB-E045",
        "is not below 4 GiB",
        lambda: opened(tmp_path, bytes(elf64), paddr_offset=0xFFFF800000000000),
    )


def test_the_other_class_keeps_what_is_loaded_and_the_notes(tmp_path: Path, elf: Any) -> None:
    other = 96 - elf.bits
    image = read_elf(MemoryContent(bytes(elf)), "vmlinux")
    if elf.bits == 64:  # linked in the upper half
        assert_refused("BB-E044", "does not fit ELF32", lambda: rewrap(image, 32))
        return
    wrapped = rewrap(image, other)
    assert (wrapped.bits, wrapped.machine, wrapped.entry) == (64, 62, image.entry)
    assert [(n.owner, n.type, n.desc) for n in wrapped.notes] == [
        (n.owner, n.type, n.desc) for n in image.notes
    ]
    for old, new in zip(image.loads, wrapped.loads, strict=True):
        same = (old.type, old.flags, old.vaddr, old.paddr, old.filesz, old.memsz)
        assert (new.type, new.flags, new.vaddr, new.paddr, new.filesz, new.memsz) == same
        assert new.type == PT_LOAD
        assert (new.offset - new.vaddr) % new.align == 0
        assert wrapped.content.read(new.offset, new.filesz) == image.content.read(old.offset, old.filesz)
    assert wrapped.symbols == image.symbols
