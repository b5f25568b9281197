"""The models of GRUB and QEMU say of every Multiboot file what the table has, and of any bytes something."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import pytest

from bootbuild.api import ElfImage, InputError, Loader, LoaderVerdict, MemoryContent
from bootbuild.formats.elf_read import read_elf
from bootbuild.host import Host
from bootbuild_baremetal.environments import grub_bios, qemu
from bootbuild_baremetal.environments.kernel import Kernel
from corner_cases import CASES as OTHERS
from multiboot_cases import CASES, COLUMNS, MultibootCase

GRUB = [model for models in COLUMNS.values() for model in models if model != "qemu"]
BOOT = {model: boot for boot, models in COLUMNS.items() for model in models}
#: GRUB takes what there is of the file, and reads over the end of the memory that it asked for
ADDRESSES_OF_NO_FILE = [("load_end_addr beyond the file", "BB-L332"), ("bss_end_addr", "BB-L332")]
FILES = [case.data for case in CASES] + [case.data for case in OTHERS]


@functools.cache
def loader(name: str) -> Loader:
    """One model, found as bootbuild finds it."""
    return Host.discover().loader(name)


def said(model: str, data: bytes, boot: str) -> LoaderVerdict:
    """The deciding verdict: QEMU has one for another protocol only where it sees no Multiboot header."""
    found = loader(model).judge(MemoryContent(data))
    return next((one for one in found if one.boot == boot), found[0])


@pytest.mark.parametrize(
    ("case", "model"), [(case, model) for case in CASES for model in COLUMNS[case.boot]], ids=str
)
def test_a_loader_says_what_the_table_has(case: MultibootCase, model: str) -> None:
    one = said(model, case.data, case.boot)
    assert (one.verdict, one.rule, one.entry) == case.said(model)


def with_no_string_table(data: bytes) -> bytes:
    """The file with e_shstrndx 0 where it has no sections: the table's files have 1."""
    head = bytearray(data)
    number, index = (60, 62) if data[4:5] == b"\2" else (48, 50)
    if head[number : number + 2] == b"\0\0":
        head[index : index + 2] = b"\0\0"
    return bytes(head)


@pytest.mark.parametrize("model", ["grub-multiboot1", "grub-multiboot2", "qemu"])
def test_profiles_enter_a_file_where_its_loader_does(model: str) -> None:
    """What real loaders do with these files is known (oracles): the entry is read by two readers of ours."""
    read: dict[str, Callable[[ElfImage], Kernel]] = {
        "grub-multiboot1": grub_bios.Multiboot1().kernel,
        "grub-multiboot2": grub_bios.Multiboot2().kernel,
        "qemu": qemu.Multiboot1().kernel,
    }
    compared, stricter = [], set()
    for case in (case for case in CASES if model in COLUMNS[case.boot]):
        verdict, _, entry = case.said(model)
        if verdict != "accept" or entry is None:
            continue
        try:
            image = read_elf(MemoryContent(with_no_string_table(case.data)), case.name)
        except InputError:
            continue  # no ELF, or one that bootbuild takes for damaged
        try:
            compared.append((case.name, read[model](image).entry, entry))
        except InputError as error:
            stricter |= {(case.name.rpartition(", ")[2], problem.rule.id) for problem in error.problems}
    assert [row for row in compared if row[1] != row[2]] == []
    assert len(compared) > 20
    assert stricter == ({*ADDRESSES_OF_NO_FILE} if model != "qemu" else set())


def test_no_two_cases_have_one_name_or_one_file() -> None:
    every = [(case.name, case.data) for case in CASES] + [(case.name, case.data) for case in OTHERS]
    assert len({name for name, _ in every}) == len({data for _, data in every}) == len(every)


@pytest.mark.parametrize("model", GRUB)
def test_only_rules_of_its_own_are_named_and_each_of_them_is_met(model: str) -> None:
    answers = [said(model, data, BOOT[model]) for data in FILES]
    assert {one.rule for one in answers} - {""} == {rule.id for rule in loader(model).rules}


@pytest.mark.parametrize("model", GRUB)
def test_what_is_refused_is_refused_in_grubs_words(model: str) -> None:
    for data in FILES:
        one = said(model, data, BOOT[model])
        refuses = one.verdict == "refuse" or one.rule == "BB-L135"
        assert refuses == one.message.startswith("error: ") or one.rule == "BB-L144", one


@pytest.mark.parametrize("model", GRUB)
def test_any_bytes_have_a_verdict(model: str) -> None:
    """Changed anywhere, cut anywhere: a model never raises."""
    rng = random.Random(model)
    files = [case.data[:0x1000] for case in CASES if case.boot == BOOT[model]]
    for _ in range(2000):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice([1, 2, 8, 64])):
            if data:
                data[rng.randrange(min(len(data), 0x640))] = rng.choice([0, 1, 4, 0xFF, rng.randrange(256)])
        said(model, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]), BOOT[model])
