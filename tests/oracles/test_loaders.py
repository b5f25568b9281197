"""Loader models say what the real programs say, to every file at the edges: verdict, entry and message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootbuild.api import LoaderVerdict, MemoryContent
from bootbuild.host import Host
from corner_case import Case
from corner_cases import CASES
from corner_kernels import START
from debian_kernels import Kernels
from real_loaders import ask_grub_file, ask_qemu, ask_toolstack, ask_xen, by_hvm_generic
from tiny_elf import HIGH

QUESTIONS = {
    "xen-pv": ("--is-x86-xen-dom0", "--is-x86_64-xen-domu", "--is-i386-xen-pae-domu"),
    "multiboot1": ("--is-x86-multiboot",),
    "multiboot2": ("--is-x86-multiboot2",),
    "linux": ("--is-x86-linux", "--is-x86-linux32"),
}


def verdicts(model: str, case: Case) -> dict[str, LoaderVerdict]:
    return {one.boot: one for one in Host.discover().loader(model).judge(MemoryContent(case.data))}


@pytest.fixture
def kernel(case: Case, tmp_path: Path) -> Path:
    """The case's file."""
    path = tmp_path / "kernel"
    path.write_bytes(case.data)
    return path


each_case = pytest.mark.parametrize("case", CASES, ids=str)


@each_case
def test_qemu(case: Case, kernel: Path, qemu: Path) -> None:
    said = verdicts("qemu", case)
    deciding = list(said.values())[-1]  # of another protocol, where that comes before PVH
    real = ask_qemu(qemu, kernel, 2 if "without end" in deciding.message else 60)
    if (deciding.verdict, deciding.rule) == ("crash", "BB-L119"):
        # what lies behind a mapped file is another thing in every process: it mostly dies, but need not
        assert real.verdict != "accept" or real.entry != START
        return
    if deciding.rule == "BB-L133":
        return
    if deciding.verdict == "ignore":  # it is Linux to QEMU
        (linux,) = verdicts("qemu-linux", case).values()
        assert linux.verdict in ("accept", "wild")
        assert (real.verdict, real.entry) == ("accept", 0), real.text
        return
    jumps = deciding.verdict in ("accept", "wild")
    assert real.verdict == ("accept" if jumps else deciding.verdict), real.text
    if jumps:
        assert real.entry == deciding.entry
    if real.verdict == "refuse":
        assert deciding.message in real.text
        assert said["pvh"].verdict == "refuse"


@each_case
@pytest.mark.parametrize("boot", ["pvh", "xen-pv"])
def test_libxenguest(case: Case, kernel: Path, toolstack_parser: Path, boot: str) -> None:
    said, real = verdicts("xen-xl", case)[boot], ask_toolstack(toolstack_parser, boot, kernel)
    assert real.verdict == ("accept" if said.verdict == "wild" else said.verdict), real.text
    assert said.message in real.text
    assert by_hvm_generic(real.text) == (said.rule == "BB-L116"), real.text
    assert real.entry in (None, said.entry)


ALSO = {  #: what only the real Xen can show, though the row is another's
    "a bzImage whose payload_offset wraps",
    "PV, !supervisor_mode_kernel",
}


def told_apart(boot: str) -> Iterator[Case]:
    """A boot of Xen takes a second: one file for each thing that its row says, with each rule."""
    seen = set()
    for case in CASES:
        said = case.said("xen-libelf", boot)
        if (said not in seen or case.name in ALSO) and said[0] != "ignore" and case.data:
            seen.add(said)
            yield case


XEN_CASES = [(boot, case) for boot in ("pvh", "xen-pv") for case in told_apart(boot)]


@pytest.mark.parametrize(("boot", "case"), XEN_CASES, ids=str)
def test_xen_dom0(case: Case, kernel: Path, boot: str, qemu: Path, kernels: Kernels) -> None:
    said = verdicts("xen-libelf", case)[boot]
    stops = said.entry in (START, HIGH[64] + START)
    real = ask_xen(qemu, kernels.xen, boot, kernel, stops)
    assert real.verdict == said.verdict, real.text
    assert said.message in real.text
    assert real.entry == (said.entry if stops else None)


@each_case
@pytest.mark.parametrize("boot", QUESTIONS)
def test_grub_file(case: Case, kernel: Path, grub_file: Path, boot: str) -> None:
    said = verdicts("grub-file", case)[boot]
    answers = {question: ask_grub_file(grub_file, question, kernel) for question in QUESTIONS[boot]}
    if said.verdict == "ignore":
        assert said.rule == "BB-L133"
        return
    if said.verdict == "crash":
        assert None in answers.values()
        return
    assert ", ".join(q for q, answer in answers.items() if answer) == said.message.replace("false", "")
    assert (said.verdict == "accept") == any(answers.values())
