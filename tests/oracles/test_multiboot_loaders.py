"""The models of GRUB's and QEMU's Multiboot say what the real programs say: verdict, entry and message."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from bootbuild.api import LoaderVerdict, MemoryContent
from bootbuild.host import Host
from grub import Command, Grub
from grub_verdicts import Answer, Oracle
from multiboot_cases import COLUMNS, MULTIBOOT1, MULTIBOOT2, MultibootCase
from real_loaders import ask_qemu

COMMANDS: dict[str, Command] = {"multiboot1": "multiboot", "multiboot2": "multiboot2"}
CASES = {"multiboot1": MULTIBOOT1, "multiboot2": MULTIBOOT2}


@functools.cache
def host() -> Host:
    return Host.discover()


def verdict(model: str, case: MultibootCase) -> LoaderVerdict:
    """The deciding one: QEMU's is of another protocol where it sees no Multiboot header."""
    found = host().loader(model).judge(MemoryContent(case.data))
    return next((one for one in found if one.boot == case.boot), found[0])


@pytest.fixture(scope="session")
def bios(grub_pc: Grub, qemu: Path) -> Oracle:
    return Oracle(grub_pc, qemu, efi=False)


@pytest.fixture(scope="session")
def efi(grub_efi: Grub, qemu: Path) -> Oracle:
    return Oracle(grub_efi, qemu, efi=True)


def check(said: LoaderVerdict, real: Answer, case: MultibootCase) -> str:
    """What differs; empty if nothing does, or if the model has no answer."""
    if said.verdict == "ignore":
        return ""
    taken = "accept" if said.verdict == "wild" else said.verdict
    # What is refused only when it is to be started: see Oracle.ask.
    late = real.verdict == "accept" and said.verdict == "refuse" and case.name in LATE
    if taken != real.verdict and not late:
        return f"{case}: {said.verdict} {said.rule}, but GRUB: {real.verdict} {real.text!r}"
    if real.verdict == "refuse" and said.message not in real.text:
        return f"{case}: {said.message!r} is not in {real.text!r}"
    return ""


LATE = {"Multiboot 1, 65535 section headers", "Multiboot 1, a segment in no RAM"}  #: refused by `boot`


@pytest.mark.parametrize("boot", CASES)
def test_grub_on_bios_about_every_file(boot: str, bios: Oracle, tmp_path: Path) -> None:
    said = [(case, verdict(f"grub-{boot}", case)) for case in CASES[boot]]
    real = bios.ask(COMMANDS[boot], [case.data for case, _ in said], tmp_path)
    assert [text for (case, one), answer in zip(said, real) if (text := check(one, answer, case))] == []


@pytest.mark.parametrize("boot", CASES)
def test_grub_on_uefi_about_every_file(boot: str, efi: Oracle, tmp_path: Path) -> None:
    said = [(case, verdict(f"grub-{boot}-efi64", case)) for case in CASES[boot]]
    said = [(case, one) for case, one in said if one.verdict != "crash"]  # on UEFI each takes half a minute
    real = efi.ask(COMMANDS[boot], [case.data for case, _ in said], tmp_path)
    assert [text for (case, one), answer in zip(said, real) if (text := check(one, answer, case))] == []


#: the code at their entry does not say where it is
SILENT = {
    "Multiboot 1, no PT_LOAD",
    "Multiboot 1, entry_addr in no RAM",
    "Multiboot 1, header_addr below load_addr",
    "header_addr below load_addr",
}
STARTED = [
    case
    for case in [*MULTIBOOT1, *MULTIBOOT2]
    if (case.said(COLUMNS[case.boot][0])[0] == "accept" or case.name in LATE) and case.name not in SILENT
]


@pytest.mark.parametrize("case", STARTED, ids=str)
def test_grub_on_bios_enters_it_there(case: MultibootCase, bios: Oracle, tmp_path: Path) -> None:
    said, real = verdict(COLUMNS[case.boot][0], case), bios.start(COMMANDS[case.boot], case.data, tmp_path)
    assert real.verdict == said.verdict, real.text
    assert said.message in real.text
    assert said.entry is None or real.entry == said.entry
    assert not real.long_mode


#: each takes a boot of OVMF: what differs from BIOS
ON_UEFI = [
    "Multiboot 1",
    "a segment at the end of 4 GiB",
    "boot services and an entry for 64-bit EFI",
    "boot services without an entry for EFI",
    "addresses, boot services and an entry for 64-bit EFI",
    "relocatable with addresses",
]


@pytest.mark.parametrize("name", ON_UEFI)
def test_grub_on_uefi_enters_it_there(name: str, efi: Oracle, tmp_path: Path) -> None:
    (case,) = (case for case in [*MULTIBOOT1, *MULTIBOOT2] if case.name in (name, f"Multiboot 1, {name}"))
    said, real = verdict(COLUMNS[case.boot][1], case), efi.start(COMMANDS[case.boot], case.data, tmp_path)
    assert (real.verdict, said.verdict in ("accept", "wild")) == ("accept", True), real.text
    assert said.entry is None or real.entry == said.entry
    assert real.long_mode == ("boot services" in name)


@pytest.mark.parametrize("case", MULTIBOOT1, ids=str)
def test_qemu(case: MultibootCase, qemu: Path, tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(case.data)
    said = verdict("qemu", case)
    real = ask_qemu(qemu, path, 2 if "without end" in said.message else 60)
    assert real.verdict == said.verdict, real.text
    assert real.entry == said.entry
    assert real.verdict != "refuse" or said.message in real.text
