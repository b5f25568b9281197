"""The models of UEFI's loaders say what OVMF, GRUB, systemd's stub and shim say, to every broken PE.

BOOTBUILD_SYSTEMD_STUB names a linuxx64.efi.stub of systemd 258 or later, which is then asked as well.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import efi_verdicts
import grub
from bootbuild.api import LoaderVerdict, MemoryContent
from bootbuild.host import Host
from efi_verdicts import Answer, Firmware
from grub import Grub
from oracle import run_until
from ovmf import Ovmf
from pe_cases import CASES, PeCase
from pe_edits import code, tiny
from uki import uki

STUB_258 = os.environ.get("BOOTBUILD_SYSTEMD_STUB", "")
#: what LoadImage takes, and only the boot manager does not
DRIVERS = ("subsystem boot service driver", "subsystem runtime driver", "subsystem EFI ROM")


@functools.cache
def host() -> Host:
    return Host.discover()


def verdict(model: str, case: PeCase) -> LoaderVerdict:
    (found,) = host().loader(model).judge(MemoryContent(case.file(model)))
    return found


@pytest.fixture(scope="session")
def plain(ovmf: Ovmf, qemu: Path, gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return efi_verdicts.firmware(ovmf, qemu, gcc, tmp_path_factory.mktemp("ask"))


@pytest.fixture(scope="session")
def by_shim(
    ovmf: Ovmf, qemu: Path, gcc: Path, shim: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Firmware:
    return efi_verdicts.firmware(ovmf, qemu, gcc, tmp_path_factory.mktemp("ask"), shim)


def sure(model: str, but: Sequence[str] = ()) -> list[PeCase]:
    """The files over which nothing is written that is the firmware's own, and of which the model knows."""
    known = [case for case in CASES if case.said(model)[0] != "wild" and case.said(model)[1] != "BB-L133"]
    return [case for case in known if str(case) not in but]


def entries(case: PeCase) -> str:
    """At which letters a file is entered that says so."""
    if str(case).startswith("entry in data") or str(case) == "entry at the last byte":
        return ""
    return "b" if str(case) == "entry at the next letter" else "a"


def differences(
    model: str, cases: Sequence[PeCase], answers: Sequence[Answer], *, messages: bool = True
) -> list[str]:
    """What the real program says otherwise."""
    found = []
    for case, real in zip(cases, answers, strict=True):
        said = verdict(model, case)
        taken = "refuse" if said.verdict == "ignore" else said.verdict
        agrees = taken == real.verdict and (said.message in real.text or not messages)
        if said.verdict == "accept":
            agrees = agrees and real.entered == entries(case)
        if not agrees:
            found.append(f"{case}: {said.verdict} {said.rule} {said.message!r}, but {real}")
    return found


def test_ovmf_about_every_file(plain: Firmware, tmp_path: Path) -> None:
    cases = sure("edk2", DRIVERS)
    answers = plain.ask([case.data() for case in cases], tmp_path)
    assert differences("edk2", cases, answers) == []


def test_ovmf_does_not_start_a_driver_as_a_boot_option(ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    (case,) = (case for case in CASES if str(case) == DRIVERS[0])
    application = tmp_path / "driver.efi"
    application.write_bytes(case.data())
    command = ovmf.from_disk(qemu, application, tmp_path)
    said = verdict("edk2", case)
    text = run_until(command, [rf"failed to load[^\n]*{said.message}"], timeout=60).text
    assert f"{said.message}" in text
    assert efi_verdicts.ALIVE not in text


#: files that go wild, and where they are entered all the same
SURVIVES = {
    "zeros that end behind the image": "a",
    "data overlaps code's last bytes": "a",
    "code overlaps data": "a",
    "entry in the headers": "",
}
DIES = ("data overlaps code", "entry 0", "entry behind the image")


def wild(names: Sequence[str]) -> list[bytes]:
    """Files of which the model says so."""
    found = {str(case): case for case in CASES}
    assert {verdict("edk2", found[name]).verdict for name in names} == {"wild"}
    return [found[name].data() for name in names]


def test_ovmf_starts_what_overlaps_or_is_no_code(plain: Firmware, tmp_path: Path) -> None:
    answers = plain.ask(wild(list(SURVIVES)), tmp_path)
    assert [(one.verdict, one.entered) for one in answers] == [("accept", at) for at in SURVIVES.values()]


def test_ovmf_starts_what_kills_it(plain: Firmware, tmp_path: Path) -> None:
    answers = plain.ask(wild(DIES), tmp_path)
    assert {(one.verdict, one.entered) for one in answers} == {("crash", "")}


def test_the_later_of_two_sections_that_overlap_is_the_one_that_is_entered(
    plain: Firmware, tmp_path: Path
) -> None:
    """Seen in memory only: each section of the file is as it should be."""
    from pe_edits import DATA_, TEXT, get_of, section

    good = tiny()
    start = get_of(good, DATA_, "raw")
    other = good[:start] + code("c") + good[start + len(code("c")) :]
    file = section(DATA_, address=get_of(good, TEXT, "address"), size=len(code("c")))(other)
    (found,) = host().loader("edk2").judge(MemoryContent(file))
    assert (found.verdict, found.rule) == ("wild", "BB-L532")
    (real,) = plain.ask([file], tmp_path)
    assert real.entered == "c", real


def test_systemds_stub_about_every_file(plain: Firmware, systemd_stub: bytes, tmp_path: Path) -> None:
    cases = sure("systemd-stub")
    answers = plain.ask([uki(systemd_stub, case.data()) for case in cases], tmp_path)
    assert differences("systemd-stub", cases, answers) == []


if STUB_258:  # not a skip: where it is not set there is nothing to be asked

    def test_systemds_stub_from_258_on_about_every_file(plain: Firmware, tmp_path: Path) -> None:
        stub = Path(STUB_258).read_bytes()
        cases = sure("systemd-stub-258", ("entry 0",))  # it says success, and has started nothing
        answers = plain.ask([uki(stub, case.file("systemd-stub-258")) for case in cases], tmp_path)
        assert differences("systemd-stub-258", cases, answers) == []


def test_shim_about_every_file(by_shim: Firmware, tmp_path: Path) -> None:
    """It keeps its words to itself when a program asks it."""
    cases = sure("shim")
    answers = by_shim.ask([case.data() for case in cases], tmp_path)
    assert differences("shim", cases, answers, messages=False) == []


@pytest.mark.parametrize(
    "name",
    ["a VirtualSize of 0", "data overlaps code", "no relocations", "FileAlignment 1 GiB", "e_lfanew 0"],
)
def test_shim_says_why(name: str, by_shim: Firmware, shim: bytes, tmp_path: Path) -> None:
    """Of what it starts by itself."""
    (case,) = (case for case in CASES if str(case) == name)
    program = tmp_path / "shim.efi"
    program.write_bytes(shim)
    command = by_shim.ovmf.from_disk(by_shim.qemu, program, tmp_path)
    (tmp_path / "disk/EFI/BOOT/grubx64.efi").write_bytes(case.data())
    message = verdict("shim", case).message
    transcript = run_until(command, [re.escape(message)], timeout=60)
    assert message
    assert transcript.reached, transcript


@dataclass(frozen=True)
class Chained:
    """A script for GRUB that starts files 000, 001 … of the disk."""

    count: int

    def config(self, root: str) -> str:
        return grub.by_shell(root)

    def archive(self) -> bytes:
        lines = ["set root=(hd0,msdos1)"]
        for number in range(self.count):
            lines += [f"echo CASE {number:03}", f"if chainloader /{number:03}; then echo LOADED; boot; fi"]
        return grub.archive({"commands": "\n".join([*lines, "echo ALL-DONE", "halt", ""]).encode()})


def ask_grub(loader: Grub, ovmf: Ovmf, qemu: Path, files: Sequence[bytes], folder: Path) -> list[Answer]:
    """What GRUB says to each, started from the disk that they are on; none may kill the firmware."""
    command = ovmf.from_disk(qemu, loader.application(Chained(len(files)), folder), folder)
    for number, data in enumerate(files):
        (folder / "disk" / f"{number:03}").write_bytes(data)
    text = run_until(command, ["ALL-DONE"], timeout=120).text
    found = re.split(r"CASE \d+\n", text)[1:]
    assert len(found) == len(files), text
    return [Answer("accept" if "LOADED" in one and "error: " not in one else "refuse", one) for one in found]


def test_grubs_chainloader_about_every_file(grub_efi: Grub, ovmf: Ovmf, qemu: Path, tmp_path: Path) -> None:
    cases = sure("grub-chainloader", ("entry at the last byte",))  # it returns neither success nor an error
    answers = ask_grub(grub_efi, ovmf, qemu, [case.data() for case in cases], tmp_path)
    assert differences("grub-chainloader", cases, answers) == []
