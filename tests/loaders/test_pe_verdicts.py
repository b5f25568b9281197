"""Loader models of UEFI applications say of a broken PE what the table has, and of any bytes something."""

from __future__ import annotations

import functools
import random

import pytest

from bootbuild.api import Loader, LoaderVerdict, MemoryContent
from bootbuild.host import Host
from bootbuild_loaders import pe_rules
from broken_pe import BROKEN
from corner_cases import CASES as OTHERS
from pe_cases import BASE, CASES, COLUMNS, ROWS, PeCase
from pe_edits import get, get_of, written_over


@functools.cache
def loader(name: str) -> Loader:
    """One model, found as bootbuild finds it."""
    return Host.discover().loader(name)


def said(model: str, data: bytes) -> LoaderVerdict:
    """What it says: one thing, about protocol "efi", without an entry, which the firmware chooses."""
    (found,) = loader(model).judge(MemoryContent(data))
    assert (found.boot, found.entry) == ("efi", None)
    return found


@pytest.mark.parametrize("model", COLUMNS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loader_says_what_the_table_has(case: PeCase, model: str) -> None:
    one = said(model, case.file(model))
    assert (one.verdict, one.rule) == case.said(model)


def test_no_two_cases_have_one_name_or_one_file() -> None:
    assert list(ROWS) == [broken.name for broken in BROKEN]
    assert len({case.data() for case in CASES}) == len(CASES)


#: rule: the case, and the loader that holds it against that
BROKEN_RULES = {
    "BB-L520": ("no PE signature", "edk2"),
    "BB-L521": ("for 32-bit x86", "edk2"),
    "BB-L522": ("SizeOfOptionalHeader 8 too large", "edk2"),
    "BB-L523": ("SizeOfHeaders in the table", "edk2"),
    "BB-L524": ("cut by a byte", "edk2"),
    "BB-L525": ("data in the headers in memory", "edk2"),
    "BB-L526": ("subsystem boot service driver", "edk2"),
    "BB-L527": ("a section behind the image", "edk2"),
    "BB-L528": ("SectionAlignment 0", "edk2"),
    "BB-L529": ("stripped, ImageBase 10 MiB", "edk2"),
    "BB-L530": ("a relocation of type 9", "edk2"),
    "BB-L531": ("entry behind the image", "edk2"),
    "BB-L532": ("data overlaps code", "edk2"),
    "BB-L533": ("a debug entry too short", "edk2"),
    "BB-L534": ("entry in data", "edk2-protected"),
    "BB-L535": ("SizeOfImage 1 GiB", "edk2"),
    "BB-L536": ("a resource's name outside", "edk2"),
    "BB-L537": ("an empty section", "shim"),
    "BB-L538": ("data overlaps code", "shim"),
    "BB-L539": ("discardable code", "shim"),
    "BB-L540": ("two relocation sections", "shim"),
    "BB-L541": ("cut by a byte", "shim"),
    "BB-L542": ("no .sbat", "shim-strict"),
    "BB-L543": ("MajorImageVersion 0", "systemd-stub"),
    "BB-L544": ("no sections", "systemd-stub"),
    "BB-L545": ("FileAlignment odd", "shim"),
    "BB-L546": ("writable code", "shim-strict"),
    "BB-L547": ("a table with a byte more", "systemd-stub-258"),
    "BB-L548": ("more data than VirtualSize", "systemd-stub-258"),
    "BB-L549": (".sbat with relocations", "systemd-stub-258"),
    "BB-L550": ("uninitialized data", "systemd-stub-258"),
}


def test_every_rule_has_its_image() -> None:
    assert list(BROKEN_RULES) == [rule.id for rule in pe_rules.RULES]


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_this_rule_is_broken(rule: str) -> None:
    name, model = BROKEN_RULES[rule]
    (case,) = (case for case in CASES if str(case) == name)
    assert said(model, case.file(model)).rule == rule


def test_a_model_names_its_own_rules_and_each_of_them_somewhere() -> None:
    for model in COLUMNS:
        own = {rule.id for rule in loader(model).rules}
        assert {case.said(model)[1] for case in CASES} - {""} <= own
    named = {rule.id for model in COLUMNS for rule in loader(model).rules}
    assert {rule.id for rule in pe_rules.RULES} <= named


@pytest.mark.parametrize("model", COLUMNS)
def test_kernels_that_are_no_applications_are_not_meant_for_it(model: str) -> None:
    verdicts = [said(model, case.data) for case in OTHERS]
    assert {(one.verdict, one.rule) for one in verdicts} == {("ignore", "BB-L520")}


#: what a field is overwritten with
ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x200, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFF000, 0xFFFFFFFF)


@pytest.mark.parametrize("model", COLUMNS)
def test_damaged_headers_have_a_verdict(model: str) -> None:
    """3,400 of them for each; a model never raises."""
    rng = random.Random(model)
    for _ in range(3400):
        data = bytearray(rng.choice(CASES).file(model))
        for _ in range(rng.choice([1, 2, 8])):
            value, width = rng.choice([*ODD, rng.randrange(1 << 32)]), rng.choice([1, 2, 4])
            at = rng.randrange(min(len(data), 0xC00) + 1)
            data[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        one = said(model, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))
        assert (one.verdict == "accept") or one.rule


@pytest.mark.parametrize("model", COLUMNS)
def test_sections_that_are_written_over_again_and_again(model: str) -> None:
    """Base relocations are in all of them: real loaders copy 80 GiB. Some refuse the file before."""
    one = said(model, written_over(8 << 20, 10_000))
    expected = {"BB-L133"} if model.startswith(("edk2", "grub")) else {"BB-L541", "BB-L542", "BB-L543"}
    assert one.rule in expected


def test_names_of_fields_are_those_of_the_format() -> None:
    """As another reader has them."""
    from bootbuild.api import read_pe

    pe = read_pe(MemoryContent(BASE))
    assert (pe.entry, pe.image_size, pe.header_size, pe.subsystem) == tuple(
        get(BASE, name) for name in ("entry", "image_size", "header_size", "subsystem")
    )
    assert [(s.size, s.address, s.raw_size, s.raw, s.flags) for s in pe.sections] == [
        tuple(get_of(BASE, number, name) for name in ("size", "address", "raw_size", "raw", "flags"))
        for number in range(4)
    ]
