"""Every way in which a static PIE cannot be moved."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import InputError
from pies import (
    HIGH,
    MIB,
    MILLION,
    NEEDED,
    RELA,
    RELAENT,
    RELASZ,
    assert_refused,
    changed,
    in_a_section,
    opened,
    overlapping,
    pie,
    rela,
    relr,
    xen_entry,
)

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
