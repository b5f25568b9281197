"""The models of Linux's loaders say of every broken bzImage what the table has, of any bytes something."""

from __future__ import annotations

import functools
import gzip
import random

import pytest

from bootbuild.api import Loader, LoaderVerdict, MemoryContent
from bootbuild.host import Host
from bootbuild_loaders import linux_rules
from corner_cases import CASES as OTHERS
from linux_cases import BASE, BOOT, CASES, COLUMNS, ROWS, LinuxCase
from tiny_linux import BROKEN, changed, get, has_crc

FILES = [case.data() for case in CASES] + [case.data for case in OTHERS]
FILES.append(changed(BASE, init_size=0xFFFFFFFF))  # the page behind it is none of 32 bits
FILES.append(b"\x1f\x8b" + bytes(100))  # a gzip that is none


@functools.cache
def loader(name: str) -> Loader:
    """One model, found as bootbuild finds it."""
    return Host.discover().loader(name)


def said(model: str, data: bytes) -> LoaderVerdict | None:
    """What it says, asked for the table's protocol."""
    found = [one for one in loader(model).judge(MemoryContent(data)) if one.boot == BOOT[model]]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize("model", COLUMNS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loader_says_what_the_table_has(case: LinuxCase, model: str) -> None:
    one = said(model, case.data())
    assert (one and (one.verdict, one.rule, one.entry)) == case.said(model)


def test_no_two_cases_have_one_name_or_one_file_but_for_two_ways_to_say_four() -> None:
    assert list(ROWS) == [broken.name for broken in BROKEN]
    assert len({case.data() for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_file_that_had_a_crc_has_one_unless_that_is_what_is_wrong(case: LinuxCase) -> None:
    assert has_crc(case.data()) == (len(case.data()) >= len(BASE) and str(case) != "a wrong CRC")


#: rule: the case and the loader that holds it against that
BROKEN_RULES = {
    "BB-L430": ("no HdrS", "grub-linux"),
    "BB-L431": ("protocol 2.02", "grub-linux"),
    "BB-L432": ("loadflags 0", "qemu-linux"),
    "BB-L433": ("no 0xAA55", "grub-linux16"),
    "BB-L434": ("setup_sects 65", "grub-linux"),
    "BB-L435": ("setup_sects 64", "qemu-linux"),
    "BB-L436": ("init_size a page too small", "kexec"),
    "BB-L437": ("code32_start 2 MiB", "grub-linux"),
    "BB-L438": ("a header that ends before it begins", "grub-linux"),
    "BB-L439": ("xloadflags without the 64-bit entry", "kexec"),
    "BB-L444": ("xloadflags without memory above 4 GiB", "kexec"),
    "BB-L445": ("cmdline_size 1 MiB", "grub-linux"),
    "BB-L446": ("cut in the setup header", "grub-linux16"),
    "BB-L447": ("loadflags 0, a kernel of 1 MiB", "grub-linux16"),
    "BB-L448": ("pref_address above 4 GiB", "grub-linux"),
    "BB-L449": ("kernel_alignment odd", "kexec"),
}


def test_every_rule_has_its_image() -> None:
    assert list(BROKEN_RULES) == [rule.id for rule in linux_rules.RULES]


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_this_rule_is_broken(rule: str) -> None:
    name, model = BROKEN_RULES[rule]
    (case,) = (case for case in CASES if str(case) == name)
    one = said(model, case.data())
    assert one is not None
    assert one.rule == rule


@pytest.mark.parametrize("model", [model for model in COLUMNS if model != "xen-bzimage"])
def test_only_rules_of_its_own_are_named_and_each_of_them_is_met(model: str) -> None:
    met = {one.rule for data in FILES if (one := said(model, data))} - {""}
    assert met | {one.rule for one in loader(model).judge(Large())} - {""} == {
        rule.id for rule in loader(model).rules
    }


class Large:
    """A bzImage with zeros behind it, larger than the memory that GRUB on a PC has."""

    size = 128 << 20

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        return BASE[offset : offset + size].ljust(size, b"\0")

    def read_into(self, offset: int, buffer: memoryview) -> int:
        raise AssertionError("a model reads the headers alone")


@pytest.mark.parametrize("model", ["grub-linux", "grub-linux16", "grub-linux-efi64"])
def test_what_is_refused_is_refused_in_grubs_words_also_in_gzip(model: str) -> None:
    for case in CASES:
        one = said(model, case.data())
        assert one is not None
        assert (one.verdict == "refuse") == one.message.startswith("error: "), case
        assert said(model, gzip.compress(case.data(), mtime=0)) == one


@pytest.mark.parametrize("model", COLUMNS)
def test_an_elf_is_no_question(model: str) -> None:
    assert said(model, OTHERS[0].data) is None


def test_an_elf_is_none_of_the_bzimage_loader_even_with_hdrs_inside() -> None:
    """A fuzzed ELF32 file was judged by the rule of another loader, that of HVM firmware."""
    data = bytearray(OTHERS[0].data.ljust(0x206, b"\0"))
    data[0x202:0x206] = b"HdrS"
    assert said("xen-bzimage", bytes(data)) is None


@pytest.mark.parametrize("model", COLUMNS)
def test_any_bytes_have_a_verdict(model: str) -> None:
    """Changed anywhere, cut anywhere: a model never raises."""
    rng = random.Random(model)
    for _ in range(1000):
        data = bytearray(BASE)
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(0x1E0, 0x270)] = rng.choice([0, 1, 4, 0x7F, 0xFF, rng.randrange(256)])
        said(model, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))


def test_the_numbers_of_a_field_are_those_of_the_setup_header() -> None:
    assert get(BASE, "version") == int.from_bytes(BASE[0x206:0x208], "little") == 0x20F
