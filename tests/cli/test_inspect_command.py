"""`bootbuild inspect FILE`: what can start it, and how, as text and as JSON."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.api import MemoryContent, read_elf
from bootbuild.errors import ExitCode
from debian_kernels import Kernels

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]

HELLO = """\
hello64.elf: elf, {size} bytes
sha256 {sha256}
ELF64 x86-64, e_type 2, e_entry 0x100000
symbols: {symbols} from .symtab

TARGET      ENTRY (physical)
efi         -
linux       -
multiboot1  -
multiboot2  -
pvh         -
xen-pv      -

SEGMENT  FLAGS  OFFSET               VADDR     PADDR  FILESZ   MEMSZ   ALIGN
LOAD     r-x    0x1000  0xffffffff80100000  0x100000 """


def test_a_kernel_without_an_entry(bootbuild: Bootbuild, hello: Path) -> None:
    data = (hello / "hello64.elf").read_bytes()
    done = bootbuild("inspect", "hello64.elf", "--no-plugins")
    symbols = len(read_elf(MemoryContent(data), "hello64.elf").symbols)
    said = HELLO.format(size=len(data), sha256=hashlib.sha256(data).hexdigest(), symbols=symbols)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.startswith(said)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(6, "PHDR"), (0x6474E551, "GNU_STACK"), (0x6474E553, "GNU_PROPERTY"), (0x70000000, "0x70000000")],
)
def test_segments_are_named_as_readelf_does(bootbuild: Bootbuild, hello: Path, kind: int, name: str) -> None:
    image = bytearray((hello / "out/hello64-pvh.elf").read_bytes())
    at = int.from_bytes(image[32:40], "little")
    image[at : at + 4] = kind.to_bytes(4, "little")
    (hello / "other.elf").write_bytes(image)
    assert f"\n{name} " in bootbuild("inspect", "other.elf").stdout
    found = json.loads(bootbuild("inspect", "other.elf", "--json").stdout)
    assert found["segments"][0]["type"] == kind


def test_an_image_names_its_entry_and_what_it_was_made_for(bootbuild: Bootbuild, hello: Path) -> None:
    text = bootbuild("inspect", "out/hello64-pvh.elf").stdout
    assert "\npvh         0x200000\n" in text
    assert (
        "\nbootbuild: made for pvh, guest native, starts at startup_64 "
        "(0xffffffff80100000, physical 0x100000, 64 bit), stub 0x200000-"
    ) in text
    assert "\nXen        PHYS32_ENTRY      4  0x200000\n" in text
    found = json.loads(bootbuild("inspect", "out/hello64-pvh.elf", "--json").stdout)
    assert found["entries"]["pvh"] == "0x200000"
    (claim,) = found["claims"]
    assert (claim["startup"], claim["vaddr"], claim["width"]) == ("startup_64", "0xffffffff80100000", 64)
    assert [note["name"] for note in found["notes"]] == ["PHYS32_ENTRY", "1"]
    assert found["setup"] is None


def test_json_is_of_the_file(bootbuild: Bootbuild, hello: Path) -> None:
    data = (hello / "hello32.elf").read_bytes()
    found = json.loads(bootbuild("inspect", "hello32.elf", "--json").stdout)
    assert list(found) == [
        "schema", "path", "format", "size", "sha256", "elf", "symbols", "entries", "claims",
        "segments", "notes", "setup", "carried",
    ]  # fmt: skip
    assert (found["schema"], found["path"], found["format"]) == ("bootbuild/inspect/1", "hello32.elf", "elf")
    assert (found["size"], found["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert found["elf"] == {"bits": 64, "machine": 62, "type": 2, "entry": "0x100000"}
    assert found["entries"]["pvh"] is None
    assert found["segments"][0]["vaddr"] == "0x100000"


def test_a_bzimage_is_the_kernel_that_is_packed_in_it(bootbuild: Bootbuild, kernels: Kernels) -> None:
    packed = json.loads(bootbuild("inspect", kernels.cloud.vmlinuz, "--json").stdout)
    plain = json.loads(bootbuild("inspect", kernels.cloud.vmlinux, "--json").stdout)
    assert (packed["format"], plain["format"]) == ("bzimage (lz4)", "elf")
    for key in ("elf", "segments", "notes"):
        assert packed[key] == plain[key]
    own = {"linux", "efi"}  # entries of the file that it is packed in
    assert {name: entry for name, entry in packed["entries"].items() if name not in own} == {
        name: entry for name, entry in plain["entries"].items() if name not in own
    }
    assert packed["entries"]["pvh"] is not None
    assert packed["entries"]["linux"] == "0x1000000" and packed["entries"]["efi"] is not None
    assert {plain["entries"][name] for name in own} == {None}
    assert packed["setup"]["boot_flag"] == "0xaa55" and packed["setup"]["pref_address"] == "0x1000000"
    text = bootbuild("inspect", kernels.cloud.vmlinuz).stdout
    assert "\nXen    GUEST_OS                6  linux\n" in text
    assert "\nSETUP HEADER           VALUE\n" in text


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("text", b"hello\n", "BB-E030"),
        ("empty", b"", "BB-E030"),
        ("cut", b"\x7fELF\x02\x01\x01", "BB-E002"),
        ("zeros", b"\x7fELF\x02\x01\x01" + bytes(4096), "BB-E"),
        ("odd\nname\x1b[2J", b"MZ", "BB-E030"),
    ],
)
def test_garbage_is_one_line(bootbuild: Bootbuild, tmp_path: Path, name: str, data: bytes, rule: str) -> None:
    (tmp_path / name).write_bytes(data)
    done = bootbuild("inspect", name)
    assert (done.returncode, done.stdout) == (ExitCode.INPUT, "")
    assert done.stderr.count("\n") == len(done.stderr.splitlines()) > 0
    assert all(line.startswith("bootbuild: error: ") and rule in line for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr


def test_every_beginning_of_a_kernel_is_read_or_refused(
    bootbuild: Bootbuild, hello: Path, tmp_path: Path
) -> None:
    data = (hello / "out/hello64-pvh.elf").read_bytes()
    for size in (4, 63, 64, 100, 300, 0x1000, 0x2003, len(data) - 1):
        (tmp_path / "cut.elf").write_bytes(data[:size])
        assert bootbuild("inspect", "cut.elf").returncode == ExitCode.INPUT, size
