"""The models of Linux's loaders say what QEMU, GRUB, libxenguest and Linux say to every broken bzImage."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import monitors
from bootbuild.api import LoaderVerdict, MemoryContent
from bootbuild.host import Host
from debian_kernels import Kernels
from first_linux import FirstLinux
from grub import FAILS, Command, Grub, Menu
from grub_verdicts import Answer, Oracle, told
from linux_cases import CASES, COLUMNS, PAYLOAD, LinuxCase
from oracle import run_until
from real_loaders import SETUP_ADDRESS, ask_qemu, ask_toolstack
from tiny_linux import LIEF_ZEROS, tiny_linux

REAL, PROTECTED, LONG = b"RPL"  #: what entries.S says of the mode
END = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]  #: by which it ends QEMU


@functools.cache
def host() -> Host:
    return Host.discover()


def verdict(model: str, case: LinuxCase) -> LoaderVerdict:
    (found,) = host().loader(model).judge(MemoryContent(case.data()))
    return found


@pytest.fixture(scope="session")
def base(gcc: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bzImage that all the others are made of, with code that tells where it is entered."""
    folder = tmp_path_factory.mktemp("entries")
    source, code = Path(__file__).parent / "guest_linux/entries.S", folder / "entries.o"
    subprocess.run([gcc, "-m32", "-c", "-o", code, source], check=True)
    parts = []
    for section in (".setup", ".kernel"):
        raw = folder / section
        subprocess.run(["objcopy", "-O", "binary", "-j", section, code, raw], check=True)
        parts.append(raw.read_bytes())
    return tiny_linux(PAYLOAD, *parts)


@pytest.fixture(scope="session")
def bios(grub_pc: Grub, qemu: Path) -> Oracle:
    return Oracle(grub_pc, qemu, efi=False)


@pytest.fixture(scope="session")
def efi(grub_efi: Grub, qemu: Path) -> Oracle:
    return Oracle(grub_efi, qemu, efi=True)


# What is accepted and refused


@pytest.mark.parametrize("case", CASES, ids=str)
def test_qemu(case: LinuxCase, base: bytes, qemu: Path, tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(case.data(base))
    said, real = verdict("qemu-linux", case), ask_qemu(qemu, path, number=SETUP_ADDRESS)
    assert real.verdict == ("accept" if said.verdict == "wild" else said.verdict), real.text
    assert said.message in real.text
    assert said.entry == (None if real.entry is None else real.entry + 0x200)


#: refused by `boot` only
LATE = ("cmdline_size 1 MiB",)
GRUB: dict[str, Command] = {"grub-linux": "linux", "grub-linux16": "linux16", "grub-linux-efi64": "linux"}


def differences(model: str, oracle: Oracle, base: bytes, folder: Path) -> list[str]:
    """About every file over which GRUB does not hang."""
    said = [(case, one) for case in CASES if (one := verdict(model, case)).verdict != "crash"]
    answers = oracle.ask(GRUB[model], [case.data(base) for case, _ in said], folder)
    return [text for (case, one), real in zip(said, answers) if (text := check(case, one, real))]


def check(case: LinuxCase, said: LoaderVerdict, real: Answer) -> str:
    """What differs; empty if nothing does."""
    taken = "accept" if said.verdict == "wild" else said.verdict
    late = str(case) in LATE and said.message not in real.text
    if taken != real.verdict and not late:
        return f"{case}: {said.verdict} {said.rule}, but GRUB: {real.verdict} {real.text!r}"
    return "" if late or said.message in real.text else f"{case}: {said.message!r} is not in {real.text!r}"


@pytest.mark.parametrize("model", ["grub-linux", "grub-linux16"])
def test_grub_on_bios_about_every_file(model: str, base: bytes, bios: Oracle, tmp_path: Path) -> None:
    assert differences(model, bios, base, tmp_path) == []


def test_grub_on_uefi_about_every_file(base: bytes, efi: Oracle, tmp_path: Path) -> None:
    assert differences("grub-linux-efi64", efi, base, tmp_path) == []


def told_apart(model: str, verdicts: Sequence[str]) -> list[LinuxCase]:
    """One file for each thing that its column says."""
    seen = set()
    found = []
    for case in CASES:
        said = case.said(model)
        if said is not None and said[0] in verdicts and said not in seen:
            seen.add(said)
            found.append(case)
    return found


DEADLY = [case for case in CASES if verdict("grub-linux", case).verdict == "crash"]


@pytest.mark.parametrize("case", DEADLY, ids=str)
def test_grub_on_bios_hangs_over_it(case: LinuxCase, base: bytes, bios: Oracle, tmp_path: Path) -> None:
    (real,) = bios.ask("linux", [case.data(base)], tmp_path, patience=3)
    assert real.verdict == "crash", real.text


@pytest.mark.parametrize("case", told_apart("grub-linux-efi64", ["crash"]), ids=str)
def test_grub_on_uefi_dies_of_it(case: LinuxCase, base: bytes, efi: Oracle, tmp_path: Path) -> None:
    (real,) = efi.ask("linux", [case.data(base)], tmp_path)
    assert real.verdict == "crash", real.text


@pytest.mark.parametrize("case", told_apart("grub-linux16", ["crash"]), ids=str)
def test_grubs_linux16_hangs_when_it_starts_it(
    case: LinuxCase, base: bytes, bios: Oracle, tmp_path: Path
) -> None:
    real = bios.start("linux16", case.data(base), tmp_path)
    assert "free magic is broken" in real.text


@pytest.mark.parametrize("boot", ["pvh", "xen-pv"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_libxenguest(case: LinuxCase, base: bytes, toolstack_parser: Path, boot: str, tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(case.data(base))
    found = host().loader("xen-bzimage").judge(MemoryContent(case.data()))
    real = ask_toolstack(toolstack_parser, boot, path)
    if not found:
        assert real.verdict == "refuse"
        return
    (said,) = (one for one in found if one.boot == boot)
    assert (real.verdict, real.entry) == (said.verdict, said.entry), real.text
    assert said.message in real.text


def test_a_running_linux_about_every_file(base: bytes, first_linux: FirstLinux, tmp_path: Path) -> None:
    """Those over which it crashes come last: they leave kexec_file_load locked."""
    said = sorted(
        ((verdict("kexec", case), case) for case in CASES), key=lambda pair: pair[0].verdict == "crash"
    )
    assert [one.verdict for one, _ in said].count("crash") == 1
    real = first_linux.ask([case.data(base) for _, case in said], tmp_path)
    assert [
        f"{case}: {one}, but {answer}"
        for (one, case), answer in zip(said, real)
        if one.verdict != answer.verdict or (one.verdict == "refuse" and one.message not in answer.text)
    ] == []


# Where it is entered

#: the code at their entry does not tell where that is, or there is none
SILENT = (
    "setup_sects for all of the file",
    "code32_start 0",
    "code32_start 2 MiB",
    "code32_start 16 bytes further",
    "code32_start in no RAM",
)


def entry_of(model: str, case: LinuxCase) -> tuple[bool, int | None]:
    """Whether it accepts the file, and where it enters it."""
    said = case.said(model)
    assert said is not None
    return said[0] == "accept", said[2]


def started(model: str) -> list[LinuxCase]:
    return [case for case in told_apart(model, ["accept", "wild"]) if str(case) not in SILENT]


def assert_in_32_bits(real: Answer, said: int | None) -> None:
    """Where the model has it, or where GRUB chose a place of the right alignment."""
    ((mode, entry),) = real.entries
    assert mode == PROTECTED
    assert said == entry or (said is None and entry % 0x200000 == 0)


@pytest.mark.parametrize("case", started("qemu-linux"), ids=str)
def test_qemu_enters_it_there(case: LinuxCase, base: bytes, qemu: Path, tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(case.data(base))
    options = ["-chardev", f"file,id=told,path={tmp_path / 'told'}", *END]
    options += ["-device", "isa-debugcon,iobase=0xea,chardev=told"]
    text = run_until([*monitors.qemu_kernel(qemu, path), *options], timeout=5).text
    entries = told(tmp_path / "told")
    accepts, entry = entry_of("qemu-linux", case)
    assert entries[:1] == ((REAL, entry),), text
    if accepts:
        assert entries[1:] == ((PROTECTED, 0x100000),)
        assert "entered in real mode\nentered in protected mode\n" in text


@pytest.mark.parametrize("case", started("grub-linux"), ids=str)
def test_grub_on_bios_enters_it_there(case: LinuxCase, base: bytes, bios: Oracle, tmp_path: Path) -> None:
    real = bios.start("linux", case.data(base), tmp_path)
    assert_in_32_bits(real, entry_of("grub-linux", case)[1])


@pytest.mark.parametrize("case", started("grub-linux16"), ids=str)
def test_grubs_linux16_enters_it_there(case: LinuxCase, base: bytes, bios: Oracle, tmp_path: Path) -> None:
    real = bios.start("linux16", case.data(base), tmp_path)
    accepts, entry = entry_of("grub-linux16", case)
    assert real.entries[0] == (REAL, entry)
    if accepts:
        assert real.entries[1:] == ((PROTECTED, 0x100000),)


@pytest.mark.parametrize("case", started("grub-linux-efi64"), ids=str)
def test_grub_on_uefi_enters_it_there(case: LinuxCase, base: bytes, efi: Oracle, tmp_path: Path) -> None:
    real = efi.start("linux", case.data(base), tmp_path)
    assert_in_32_bits(real, entry_of("grub-linux-efi64", case)[1])


@pytest.mark.parametrize("model", ["grub-linux", "grub-linux-efi64"])
def test_grub_refuses_some_when_it_is_to_start_them(
    model: str, base: bytes, bios: Oracle, efi: Oracle, tmp_path: Path
) -> None:
    (case,) = (case for case in CASES if str(case) in LATE)
    oracle = efi if model == "grub-linux-efi64" else bios
    real = oracle.start("linux", case.data(base), tmp_path)
    assert real.verdict == "refuse"
    assert verdict(model, case).message in real.text


def test_a_running_linux_enters_it_in_long_mode(base: bytes, first_linux: FirstLinux, tmp_path: Path) -> None:
    options = ["-chardev", f"file,id=told,path={tmp_path / 'told'}", *END]
    options += ["-device", "isa-debugcon,iobase=0xea,chardev=told"]
    text = first_linux.start(base, tmp_path, options, "entered in long mode\n")
    ((mode, address),) = told(tmp_path / "told")
    assert (mode, address & 0x1FFFFF) == (LONG, 0x200), text


# Debian's kernel

UP = r"bootbuild-initrd up sysname=Linux"


@pytest.mark.parametrize("model", [*COLUMNS, "grub-file", "cloud-hypervisor"])
def test_debians_kernels_are_taken_by_all(model: str, kernels: Kernels) -> None:
    for kernel in (kernels.cloud, kernels.generic, kernels.newer):
        found = host().loader(model).judge(MemoryContent(kernel.vmlinuz.read_bytes()))
        assert "accept" in {one.verdict for one in found if one.boot in ("linux", "pvh")}


@pytest.mark.parametrize("way", ["linux on BIOS", "linux16", "linux on UEFI"])
def test_debians_kernel_reaches_user_space_by_grub(
    way: str, kernels: Kernels, initrd: Path, grub_pc: Grub, grub_efi: Grub, qemu: Path, tmp_path: Path
) -> None:
    command: Command = "linux16" if way == "linux16" else "linux"
    menu = Menu(command, kernels.cloud.vmlinuz, "console=ttyS0 panic=-1", [(initrd, "")])
    make = grub_efi.efi if "UEFI" in way else grub_pc.bios
    transcript = run_until(make(qemu, menu, tmp_path, memory=512), [UP], fail=FAILS, timeout=60)
    assert transcript.reached, transcript


@pytest.mark.parametrize("which", ["cloud", "newer"])
def test_debians_kernel_reaches_user_space_by_qemu(
    which: str, kernels: Kernels, initrd: Path, qemu: Path
) -> None:
    command = monitors.qemu_kernel(
        qemu, getattr(kernels, which).vmlinuz, memory=512, cmdline="console=ttyS0 panic=-1", initrd=initrd
    )
    transcript = run_until(command, [UP], timeout=60)
    assert transcript.reached, transcript


def test_lief_writes_a_bzimage_that_none_of_them_takes(kernels: Kernels, tmp_path: Path) -> None:
    import lief

    binary = lief.PE.parse(str(kernels.cloud.vmlinuz))
    assert isinstance(binary, lief.PE.Binary)
    binary.write(str(tmp_path / "written"))
    data = (tmp_path / "written").read_bytes()
    assert data[:2] == b"MZ"
    assert not any(data[slice(*LIEF_ZEROS)])
    for model in COLUMNS:
        found = host().loader(model).judge(MemoryContent(data))
        assert "accept" not in {one.verdict for one in found}, model
