"""hello as a bzImage, and as the ELF file that Firecracker takes, in every profile of target `linux`."""

from __future__ import annotations

import json
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
