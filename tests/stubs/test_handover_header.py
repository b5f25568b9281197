"""handover.h compiles everywhere, says the same as the Python mirror, and is documented in full."""

from __future__ import annotations

import re
import struct
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

from bootbuild.abi import handover
from bootbuild.abi.boot_params import SETUP_BOOTBUILD
from bootbuild.abi.handover import BootType, HandoverFlag, HypervisorType, PostOperation
from bootbuild.stubs.sources import include_directory

HEADER = include_directory() / "bootbuild" / "handover.h"


def compiled(gcc: Path, folder: Path, text: str, *options: str, suffix: str = "c") -> Path:
    source = folder / f"some.{suffix}"
    source.write_text(text)
    output = folder / "some.o"
    strict = "-Wall -Wextra -pedantic -Werror -ffreestanding -c".split()
    command = [str(gcc), *strict, *options, "-I", str(include_directory()), "-o", str(output), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return output


@pytest.mark.parametrize("width", ["-m32", "-m64"])
@pytest.mark.parametrize("standard", ["c11", "gnu11", "c17"])
def test_it_compiles_without_a_warning(width: str, standard: str, gcc: Path, tmp_path: Path) -> None:
    text = "#include <bootbuild/handover.h>\n#include <bootbuild/handover.h>\n"
    use = "bb_post_stub *post(struct bb_handover *h) { return (bb_post_stub *)(unsigned long)h->post_stub; }"
    compiled(gcc, tmp_path, text + use, width, f"-std={standard}")


@pytest.mark.parametrize("width", ["-m32", "-m64"])
def test_it_can_be_included_from_assembly(width: str, gcc: Path, tmp_path: Path) -> None:
    compiled(gcc, tmp_path, "#include <bootbuild/handover.h>\n\t.long BB_BOOT_PVH\n", width, suffix="S")


@pytest.mark.parametrize("width", ["-m32", "-m64"])
def test_the_waist_compiles_without_a_warning(width: str, gcc: Path, tmp_path: Path) -> None:
    compiled(gcc, tmp_path, "#include <bootbuild/waist.h>\n", width, "-std=gnu11")


@pytest.mark.parametrize("width", ["-m32", "-m64"])
def test_offsets_are_those_of_the_python_mirror(width: str, gcc: Path, tmp_path: Path) -> None:
    names = [name for name, _ in handover.LAYOUT]
    values = [f"__builtin_offsetof(struct bb_handover, {name})" for name in names]
    text = (
        "#include <bootbuild/handover.h>\n"
        '__attribute__((section("measured")))\n'
        f"const uint32_t offsets[] = {{{', '.join(values)}, sizeof(struct bb_handover)}};\n"
    )
    output = compiled(gcc, tmp_path, text, width)
    raw = tmp_path / "offsets"
    subprocess.run(["objcopy", "-O", "binary", "-j", "measured", str(output), str(raw)], check=True)
    expected, at = [], 0
    for _, code in handover.LAYOUT:
        expected.append(at)
        at += struct.calcsize(f"<{code}")
    assert struct.unpack(f"<{len(names) + 1}I", raw.read_bytes()) == (*expected, handover.SIZE)


def defined(prefix: str) -> dict[str, int]:
    rows = re.findall(rf"^#define BB_{prefix}_(\w+) (0x\w+|\d+)\b", HEADER.read_text(), re.MULTILINE)
    return {name: int(value, 0) for name, value in rows}


@pytest.mark.parametrize(
    ("prefix", "mirror"),
    [("BOOT", BootType), ("HYPERVISOR", HypervisorType), ("FLAG", HandoverFlag)],
)
def test_numbers_are_those_of_the_python_mirror(prefix: str, mirror: type[IntEnum]) -> None:
    assert defined(prefix) == {member.name: int(member) for member in mirror}


def test_operations_and_frame_are_those_of_the_python_mirror() -> None:
    operations = {name: value for name, value in defined("POST").items() if name != "VERSION"}
    assert operations == {member.name: int(member) for member in PostOperation}
    assert defined("HANDOVER") == {"MAGIC": handover.MAGIC, "VERSION": handover.VERSION}
    assert handover.MAGIC.to_bytes(4, "little") == b"BBHO"


def test_the_node_of_a_linux_guest_is_that_of_the_python_mirror(repository: Path) -> None:
    assert defined("SETUP_DATA") == {"TYPE": SETUP_BOOTBUILD}
    assert not SETUP_BOOTBUILD >> 31, "that would be SETUP_INDIRECT"
    assert (
        f"| 0x08 | u32 | `type` | {SETUP_BOOTBUILD:#x}, " in (repository / "docs" / "handover.md").read_text()
    )


def test_every_field_is_documented_at_its_offset(repository: Path) -> None:
    text = (repository / "docs" / "handover.md").read_text()
    at = 0
    for name, code in handover.LAYOUT:
        size = struct.calcsize(f"<{code}")
        assert f"| {at:#04x} | u{size * 8} | `{name}` |" in text, name
        at += size


@pytest.mark.parametrize("mirror", [BootType, HypervisorType, PostOperation, HandoverFlag])
def test_every_number_is_documented(mirror: type[IntEnum], repository: Path) -> None:
    text = (repository / "docs" / "handover.md").read_text()
    as_names = mirror in {BootType, HypervisorType}
    for member in mirror:
        name = member.name.lower().replace("_", "-") if as_names else member.name
        value = f"{int(member):#x}" if member > 0xFF else int(member)
        assert f"| {value} | `{name}` |" in text, name


def test_the_documented_header_is_0bsd() -> None:
    assert HEADER.read_text().startswith("/* SPDX-License-Identifier: 0BSD */\n")
