"""hello as a bzImage, and as the ELF file that Firecracker takes, in every profile of target `linux`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bootbuild import pipeline
from bootbuild.formats.payload import open_content
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import build
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from debian_kernels import Kernels, LinuxKernel
from recipe_text import build_text
from tiny_file import Load, elf_file
from tiny_linux import changed

RECIPE = """
api = 1

[payload]
path = {path}
guest = "native"
startup = "startup_64"
cmdline = "greeting=hello"

[[payload.modules]]
path = {module}

[targets.linux]
{options}
profiles = {profiles}

[expect]
console = "hello: done"

[output]
directory = {out}
"""
BASE = 0x1000000  #: of a kernel
BZIMAGE = ["cloud-hypervisor-32bit", "grub-32bit", "kexec-64bit", "qemu-16bit"]


def made(hello: Path, folder: Path, options: str, profiles: list[str]) -> tuple[Path, dict[str, Outcome]]:
    """The image, and how it did."""
    recipe = folder / "hello.toml"
    words = {
        "path": json.dumps(str(hello)),
        "module": json.dumps(str(hello.with_name("module.txt"))),
        "options": options,
        "profiles": json.dumps(profiles),
        "out": json.dumps(str(folder / "out")),
    }
    recipe.write_text(RECIPE.format(**words))
    host = Host.discover(plugins=False)
    (image,) = build(read(recipe, host, Overrides()), host).images
    return Path(image.path), {verdict.profile: verdict.outcome for verdict in image.verdicts}


@pytest.mark.parametrize("compress", ["none", "lz4"])
def test_a_bzimage_in_every_profile(hello64: Path, tmp_path: Path, compress: str) -> None:
    _, outcomes = made(hello64, tmp_path, f'compress = "{compress}"', BZIMAGE)
    assert outcomes == dict.fromkeys(BZIMAGE, Outcome.BOOTED)


def test_an_elf_file_in_firecracker(hello64: Path, tmp_path: Path) -> None:
    _, outcomes = made(hello64, tmp_path, 'container = "elf"', ["firecracker-64bit"])
    assert outcomes == {"firecracker-64bit": Outcome.BOOTED}


def test_a_file_whose_kernel_cannot_be_had_is_booted_to_its_text(hello64: Path, tmp_path: Path) -> None:
    """As memtest86+ is: a bzImage without a payload. Nothing but the text tells how far it came."""
    path, _ = made(hello64, tmp_path, "", ["qemu-16bit"])
    data = open_content(path).read(0, path.stat().st_size)
    other = tmp_path / "other.bzimage"
    other.write_bytes(changed(data, payload_length=0))
    request = BootRequest(other, ("linux@grub-32bit", "linux@qemu-16bit"), until="console:hello")
    verdicts = pipeline.boot(request, Host.discover(plugins=False))
    assert [(v.outcome, v.reached) for v in verdicts] == [(Outcome.BOOTED, "entry, console 'hello'")] * 2


SIZE = 1 << 20


def slowest() -> bytes:
    """What the stub takes longest to undo: each sequence of LZ4 one literal, and one match of four bytes."""
    source = random.Random(20261126)
    words = [source.randbytes(4) for _ in range(500)]
    return b"".join(source.choice(words) + source.randbytes(1) for _ in range(SIZE // 5))


@pytest.mark.parametrize(("compress", "data", "least"), [("lz4", slowest(), 10), ("none", bytes(SIZE), 0.2)])
def test_a_budget_is_what_is_left_when_the_kernel_is_unpacked(
    compress: str, data: bytes, least: float, tmp_path: Path
) -> None:
    say = b"\xba\xf8\x03\0\0\xb0o\xee\xb0k\xee\xf4\xeb\xfd"  # mov $0x3f8, %edx; out "ok"; hlt, and again
    code = say + data
    (tmp_path / "kernel").write_bytes(elf_file(64, BASE, Load(BASE, BASE, code, len(code), 0x1000), b""))
    recipe = f"""
        api = 1
        [payload]
        path = "kernel"
        startup = {BASE}
        [targets.linux]
        compress = "{compress}"
        profiles = ["kexec-64bit"]
        [boot]
        budget = 200_000
        [expect]
        console = "ok"
    """
    (verdict,) = build_text(recipe, tmp_path).images[0].verdicts
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    assert least * SIZE < verdict.runs[0].instructions - 200_000


@pytest.mark.parametrize(("which", "packed"), [("cloud", "lz4"), ("generic", "xz"), ("newer", "zstd")])
def test_debians_own_bzimage_in_every_profile(
    which: str, packed: str, kernels: Kernels, initrd: Path, tmp_path: Path
) -> None:
    """By each entry of its own to the startup path of the kernel in it, which no recipe need name."""
    kernel: LinuxKernel = getattr(kernels, which)
    recipe = f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel.vmlinuz))}
        cmdline = "console=ttyS0"
        [[payload.modules]]
        path = {json.dumps(str(initrd))}
        [targets.linux]
        entry = "native"
        profiles = {json.dumps(BZIMAGE)}
    """
    (image,) = build_text(recipe, tmp_path).images
    assert Path(image.path).read_bytes() == kernel.vmlinuz.read_bytes()
    assert [verdict.profile for verdict in image.verdicts] == BZIMAGE
    for verdict in image.verdicts:
        assert (verdict.outcome, verdict.reached) == (Outcome.BOOTED, "startup_64"), verdict.findings
        assert {run.unpacked for run in verdict.runs} == {f"the host ({packed})"}
