"""`bootbuild check IMAGE`: what each loader says, as text and as JSON, of any file whatever."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import ExitCode
from bootbuild.host import Host
from debian_kernels import Kernels
from pe_cases import CASES as PE
from pe_cases import COLUMNS

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
IMAGE = "out/hello64-pvh.elf"
#: the loaders that have an answer about an ELF: the others are for bzImages
OF_AN_ELF = [
    name
    for name in Host.discover(plugins=False).names("loader")
    if name not in ("kexec", "linux-loader-bzimage", "qemu-linux", "xen-bzimage")
    and not name.startswith("grub-linux")
]
ENTRY = "0x200000"


def answers(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert (list(found), found["schema"]) == (["schema", "image", "models"], "bootbuild/check/1")
    models: list[dict[str, Any]] = found["models"]
    return models


def test_what_bootbuild_makes_every_loader_takes(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("check", IMAGE, "--json", "--no-plugins")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    found = answers(done)
    assert list(dict.fromkeys(one["model"] for one in found)) == OF_AN_ELF
    pvh = {one["model"]: (one["verdict"], one["entry"]) for one in found if one["boot"] == "pvh"}
    others = {one["model"] for one in found if one["boot"] == "efi"}
    others |= {model for model in OF_AN_ELF if model.startswith("grub-")}
    assert pvh == {model: ("accept", ENTRY) for model in OF_AN_ELF if model not in others}
    for one in found:
        assert list(one) == ["model", "version", "evidence", "boot", "verdict", "entry", "rule", "message"]


def test_an_application_of_uefi_is_told_by_each_loader_what_it_breaks(
    bootbuild: Bootbuild, tmp_path: Path
) -> None:
    (case,) = (case for case in PE if str(case) == "SizeOfImage a page too small")
    path = tmp_path / "application.efi"
    path.write_bytes(case.data())
    done = bootbuild("check", path, "--boot", "efi", "--json", "--no-plugins")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    expected = {model: case.said(model)[1] for model in COLUMNS}
    expected["systemd-stub-258"] = "BB-L547"  # of this file, whose relocations it does not take
    assert {one["model"]: one["rule"] for one in answers(done)} == expected
    table = bootbuild("check", path, "--model", "edk2", "--no-plugins").stdout
    assert "BB-L527  Load Error" in table


def test_the_table_names_rule_and_words(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("check", "hello64.elf", "--boot", "pvh", "--no-plugins")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "hello64.elf"
    assert lines[2].split() == ["VERDICT", "MODEL", "BOOT", "ENTRY", "RULE", "MESSAGE"]
    (qemu,) = (line for line in lines if " qemu " in line)
    assert qemu.split(maxsplit=7) == [
        "refuse", "qemu", "7.2.22", "(oracle)", "pvh", "-", "BB-L104",
        "Error loading uncompressed kernel without PVH ELF Note",
    ]  # fmt: skip
    assert any(line.split()[:2] == ["ignore", "firecracker"] for line in lines)
    assert lines[-2].startswith("not accepted by cloud-hypervisor, firecracker, ")
    rule = lines[-1].split("`")[1].split()[-1]
    assert rule.startswith("BB-L1") and bootbuild("explain", rule).returncode == ExitCode.OK


def test_the_same_file_has_the_same_answer(bootbuild: Bootbuild, hello: Path) -> None:
    first, second = (bootbuild("check", "hello64.elf", *more).stdout for more in ((), ("--no-plugins",)))
    assert first == second


@pytest.mark.parametrize(
    ("asked", "code", "pairs"),
    [
        (["--model", "qemu"], ExitCode.OK, {("qemu", "pvh")}),
        (["--model", "qemu", "--model", "qemu"], ExitCode.OK, {("qemu", "pvh")}),
        (["--model", "xen-xl"], ExitCode.OK, {("xen-xl", "pvh"), ("xen-xl", "xen-pv")}),
        (["--model", "xen-xl", "--boot", "pvh"], ExitCode.OK, {("xen-xl", "pvh")}),
        (["--model", "xen-xl", "--boot", "xen-pv"], ExitCode.FAILED, {("xen-xl", "xen-pv")}),
        (["--boot", "multiboot2"], ExitCode.FAILED,
         {(model, "multiboot2") for model in ("grub-file", "grub-multiboot2", "grub-multiboot2-efi64")}),
        (["--model", "grub-multiboot2"], ExitCode.FAILED, {("grub-multiboot2", "multiboot2")}),
        (["--boot", "pvh", "--boot", "linux", "--model", "qemu"], ExitCode.OK, {("qemu", "pvh")}),
        (["--boot", "linux", "--model", "qemu"], ExitCode.FAILED, {("qemu", "linux")}),
        (["--boot", "xen-pv", "--model", "qemu"], ExitCode.FAILED, {("qemu", "xen-pv")}),
        (["--boot", "xen-pv", "--model", "firecracker"], ExitCode.FAILED, {("firecracker", "xen-pv")}),
    ],
)  # fmt: skip
def test_what_is_asked_is_answered(
    bootbuild: Bootbuild, hello: Path, asked: list[str], code: ExitCode, pairs: set[tuple[str, str]]
) -> None:
    done = bootbuild("check", IMAGE, "--json", *asked)
    assert {(one["model"], one["boot"]) for one in answers(done)} == pairs
    assert done.returncode == code


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--boot", "pvhh"], "protocol 'pvhh': no loader answers for it (BB-P001); did you mean 'pvh'?"),
        (["--boot", "pvh", "--boot", "linus"], "protocol 'linus': no loader answers for it (BB-P001); did"),
        (["--boot", "linus", "--model", "qemu"], "(BB-P001); did you mean 'linux'?"),
    ],
)
def test_what_nobody_answers_is_told(bootbuild: Bootbuild, hello: Path, asked: list[str], said: str) -> None:
    done = bootbuild("check", IMAGE, *asked)
    assert (done.returncode, done.stdout) == (ExitCode.PLUGIN, "")
    assert said in done.stderr


def test_a_loader_without_an_answer_says_for_what_it_has_one(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("check", IMAGE, "--boot", "linux", "--model", "qemu")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    row, _, end = done.stdout.splitlines()[3:]
    assert row.split(maxsplit=6)[0] == "ignore" and row.endswith("of this file it answers for pvh only")
    assert end == "not accepted by qemu"


def test_a_loader_that_there_is_not(bootbuild: Bootbuild, hello: Path) -> None:
    done = bootbuild("check", IMAGE, "--model", "qemuu")
    assert (done.returncode, done.stdout) == (ExitCode.PLUGIN, "")
    assert done.stderr.startswith("bootbuild: error: ") and "qemu" in done.stderr


def test_debians_kernel_is_judged_packed_and_plain(bootbuild: Bootbuild, kernels: Kernels) -> None:
    plain = answers(bootbuild("check", kernels.cloud.vmlinux, "--json", "--boot", "pvh"))
    assert {one["verdict"] for one in plain} == {"accept"}
    assert len({one["entry"] for one in plain}) == 1
    packed = {
        one["model"]: one
        for one in answers(bootbuild("check", kernels.cloud.vmlinuz, "--json", "--boot", "pvh"))
    }
    assert packed["xen-xl"]["entry"] == packed["xen-libelf"]["entry"] == plain[0]["entry"]
    assert (packed["qemu"]["verdict"], packed["qemu"]["rule"]) == ("ignore", "BB-L128")
    assert packed["firecracker"]["verdict"] == "refuse"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("text", b"hello\n"),
        ("cut", b"\x7fELF\x02\x01\x01"),
        ("zeros", b"\x7fELF\x02\x01\x01" + bytes(4096)),
        ("ones", b"\x7fELF\x02\x01\x01" + b"\xff" * 4096),
        ("odd\nname\x1b[2J", b"MZ"),
    ],
)
def test_garbage_is_refused_by_all_and_moves_no_cursor(
    bootbuild: Bootbuild, tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    done = bootbuild("check", name, "--json", "--boot", "pvh")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    assert {one["verdict"] for one in answers(done)} <= {"refuse", "ignore"}
    assert all(one["rule"] for one in answers(done))
    text = bootbuild("check", name)
    assert text.returncode == ExitCode.FAILED
    assert "\x1b" not in text.stdout


def test_what_a_file_says_moves_no_cursor(bootbuild: Bootbuild, tmp_path: Path) -> None:
    """xen-libelf's message quotes the note LOADER."""
    from corner_kernels import LOADER, pv

    (tmp_path / "kernel").write_bytes(pv(values={LOADER: b"\x1b[2J\n\0"}))
    said = bootbuild("check", "kernel", "--boot", "xen-pv").stdout
    assert "(Not '\\x1b[2J\\n' and 'tiny')" in said and "\x1b" not in said


def test_every_beginning_of_a_kernel_is_judged(bootbuild: Bootbuild, hello: Path, tmp_path: Path) -> None:
    data = (hello / IMAGE).read_bytes()
    for size in (4, 63, 64, 100, 300, 0x1000, 0x2003, len(data) - 1):
        (tmp_path / "cut.elf").write_bytes(data[:size])
        done = bootbuild("check", "cut.elf", "--model", "qemu", "--json")
        assert {one["verdict"] for one in answers(done)} == {"refuse"}, size


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "no such file"),
        (lambda path: path.symlink_to("x"), "symbolic links"),
    ],
    ids=["directory", "device", "pipe", "nothing", "loop"],
)
def test_what_is_no_file_is_one_line(
    bootbuild: Bootbuild, tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "x")
    done = bootbuild("check", "x")
    assert (done.returncode, done.stdout) == (ExitCode.INPUT, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bootbuild: error: x") and said in line and "(BB-E031)" in line


def test_standard_input_is_no_image(bootbuild: Bootbuild) -> None:
    done = bootbuild("check", "-")
    assert (done.returncode, done.stdout) == (ExitCode.INPUT, "")
    assert done.stderr.endswith("(BB-E031); name a file: standard input is not read\n")


LIMIT = 1 << 30  #: bytes of address space: Python and its libraries take a third of that


def bomb() -> bytes:
    """A GiB of zeros, in gzip in a bzImage."""
    head = bytearray(0x400)
    head[0x1F1], head[0x1FE:0x200], head[0x202:0x208] = 1, b"\x55\xaa", b"HdrS\x0f\x02"
    packed = gzip.compress(bytes(1 << 20), mtime=0) * 40 + (1 << 20).to_bytes(4, "little")
    head[0x248:0x250] = bytes(4) + len(packed).to_bytes(4, "little")
    return bytes(head) + packed


@pytest.mark.parametrize(
    "head",
    [b"\x7fELF\x02\x01\x01" + b"\xff" * 4096, b"\x1f\x8b\x08" + bytes(100), bytes(100), bomb()],
    ids=["ones", "gzip", "zeros", "bomb"],
)
def test_a_file_of_a_tebibyte_takes_little_time_and_memory(
    program: Path, tmp_path: Path, head: bytes
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.write(head)
        file.truncate(1 << 40)
    start = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {LIMIT >> 10}; exec "$0" check large --json', program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    assert time.monotonic() - start < 40
