"""The recipe boots, and for every rule there is an image that breaks it and no other."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from bootbuild.testing import Boots, Refuses, SameBytes

RECIPE = Path(__file__).parents[1] / "recipes/unikernel.toml"
LOAD_CMDLINE = bytes.fromhex("48 8b 7e 28")  # mov RECORD_CMDLINE(%rsi), %rdi


@pytest.fixture
def image(boots: Boots) -> Path:
    """What the recipe makes."""
    return Path(boots(RECIPE).images[0].path)


def test_the_stub_is_that_of_its_source() -> None:
    folder = files("bootbuild_unikernel") / "stubs"
    subprocess.run([sys.executable, "-m", "bootbuild.stubs", "check", str(folder)], check=True)


def test_one_image_is_started_by_everybody(boots: Boots) -> None:
    (image,) = boots(RECIPE).images
    booted = {verdict.name for verdict in image.verdicts}
    assert {"pvh@qemu", "pvh@firecracker", "xen-pv@domu", "multiboot2@grub-efi64"} <= booted


def test_a_build_is_the_same_everywhere(same_bytes: SameBytes) -> None:
    assert [path.name for path in same_bytes(RECIPE)] == ["unikernel-pvh+xen-pv+multiboot2.elf"]


@pytest.mark.parametrize(
    ("instead", "finding"),
    [
        ("48 8b 76 28", "UNIKERNEL-001"),  # into RSI, where the record was
        ("48 8b 7e 20", "UNIKERNEL-002"),  # `data` for `cmdline`
    ],
)
def test_a_broken_stub_is_found_in_every_profile(
    refuses: Refuses, image: Path, instead: str, finding: str
) -> None:
    whole = image.read_bytes()
    assert LOAD_CMDLINE in whole
    broken = image.with_name("broken.elf")
    broken.write_bytes(whole.replace(LOAD_CMDLINE, bytes.fromhex(instead)))
    verdicts = refuses(broken, finding, cmdline=b"greeting=hello")
    assert verdicts
    assert all(verdict.findings for verdict in verdicts)
