"""Every loader model says of every corner case what the table has, and of any bytes at all something."""

from __future__ import annotations

import functools
import random
import struct
import time
from collections.abc import Callable

import pytest

from bootbuild.api import Loader, LoaderVerdict, MemoryContent
from bootbuild.host import Host
from corner_case import COLUMNS, Case
from corner_cases import CASES
from corner_kernels import kernel, xen

NAMES = sorted({model for model, _ in COLUMNS})


@functools.cache
def loader(name: str) -> Loader:
    """One model, found as bootbuild finds it."""
    return Host.discover().loader(name)


def said(model: str, data: bytes) -> dict[str, LoaderVerdict]:
    """What one model says, by protocol; each is asked about once."""
    found = loader(model).judge(MemoryContent(data))
    by_boot = {one.boot: one for one in found}
    assert len(by_boot) == len(found)
    return by_boot


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loader_says_what_the_table_has(case: Case, model: str) -> None:
    found = said(model, case.data)
    for boot in (boot for name, boot in COLUMNS if name == model):
        one = found[boot]
        assert (one.verdict, one.rule, one.entry) == case.said(model, boot)


def test_no_two_cases_have_one_name_or_one_file() -> None:
    assert len({case.name for case in CASES}) == len({case.data for case in CASES}) == len(CASES)


@pytest.mark.parametrize("model", NAMES)
def test_only_rules_of_its_own_are_named_and_each_of_them_is_met(model: str) -> None:
    """A model lists a rule that it never uses, or uses one that it does not list: both would show here."""
    met = {one.rule for case in CASES for one in said(model, case.data).values()} - {""}
    own = {rule.id for rule in loader(model).rules}
    assert met <= own
    assert own - met == ({"BB-L133"} if model == "xen-libelf" else set())  # that is for want of a library


@pytest.mark.parametrize("model", NAMES)
def test_what_is_not_accepted_has_a_rule_and_what_is_jumped_to_an_address(model: str) -> None:
    for case in CASES:
        for one in said(model, case.data).values():
            assert one.verdict == "accept" or one.rule, case
            jumps = one.verdict in ("accept", "wild") and model != "grub-file"
            assert (one.entry is not None) == jumps, case


class Counting:
    """A content that counts what is read of it, and that is of any size: the rest is zeros."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self.size = size
        self.read_bytes = 0

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        self.read_bytes += size
        assert self.read_bytes <= 64 << 20
        return self._data[offset : offset + size].ljust(size, b"\0")

    def read_into(self, offset: int, buffer: memoryview) -> int:
        part = self.read(offset, len(buffer))
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize("model", NAMES)
def test_headers_are_read_and_not_the_bulk(model: str) -> None:
    content = Counting(CASES[0].data, 1 << 40)
    assert next(one.verdict for one in loader(model).judge(content)) == "accept"
    assert content.read_bytes < 1 << 20


@pytest.mark.parametrize("model", NAMES)
def test_any_bytes_have_a_verdict(model: str) -> None:
    """Changed anywhere, cut anywhere: a model never raises."""
    rng = random.Random(model)
    for _ in range(2000):
        data = bytearray(rng.choice(CASES).data[:0x1000])
        for _ in range(rng.choice([1, 2, 8, 64])):
            if data:
                data[rng.randrange(min(len(data), 0x640))] = rng.choice(
                    [0, 1, 4, 18, 0x7F, 0xFF, rng.randrange(256)]
                )
        said(model, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))


def hostile_notes() -> bytes:
    """65535 program headers, each a PT_NOTE over the same zeros: 65535 × 65535 notes, none of them Xen's."""
    count, size = 0xFFFF, 0xC0000
    entry = struct.pack("<IIQQQQQQ", 4, 4, 0x400000, 0, 0, size, size, 4)
    head = kernel(head={"e_phoff": 0x1000, "e_phnum": count, "e_shnum": 0})[:0x1000].ljust(0x1000, b"\0")
    return (head + entry * count).ljust(0x400000, b"\0") + bytes(size)


def hostile_sections() -> bytes:
    """65535 sections of notes, each beginning 12 bytes after the one before."""
    notes = xen(1, b"", b"") * 70_000
    sections = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, 7, 0, 0, 0x500000 + 12 * i, len(notes) - 12 * i, 0, 0, 4, 0)
        for i in range(0xFFFF)
    )
    head = kernel(b"", noted={"p_type": 0}, head={"e_shoff": 0x1000, "e_shnum": 0xFFFF})
    return (head[:0x1000].ljust(0x1000, b"\0") + sections).ljust(0x500000, b"\0") + notes


@pytest.mark.parametrize("make", [hostile_notes, hostile_sections], ids=["notes", "sections"])
@pytest.mark.parametrize("model", NAMES)
def test_what_would_take_for_ever_is_given_up(model: str, make: Callable[[], bytes]) -> None:
    data, start = make(), time.process_time()
    said(model, data)
    assert time.process_time() - start < 10
