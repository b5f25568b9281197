"""The screen that UEFI shows: what the application makes of it, and what each guest finds of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import foreign_kernels
from bootbuild.api import FileContent, ProfileVerdict, read_elf
from bootbuild.boot.prove import prove
from bootbuild.boot.run import Subject
from bootbuild.host import Host
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import contribute, make_image, read_payloads, recipe_subject
from bootbuild.platform.uefi.graphics import BIT_MASK, BLT_ONLY, MODES, RGB, Display
from bootbuild.platform.uefi.start import Traits
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read
from bootbuild_efi.environments import Vga
from debian_kernels import Kernels

GiB = 1 << 30
Make = Callable[..., Subject]


class Shows(Vga):
    """efi@vga with another display."""

    def __init__(self, display: Display) -> None:
        self.traits = Traits(display=display)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(kernel: Path, payload: str, target: str = "") -> Subject:
        path = tmp_path / "recipe.toml"
        path.write_text(f"""
            api = 1
            [payload]
            path = {json.dumps(str(kernel))}
            {payload}
            [targets.efi]
            {target}
        """)
        host = Host.discover()
        recipe = read(path, host, Overrides())
        opened = read_payloads(recipe, host)["efi"]
        contribution = contribute(opened, recipe.targets["efi"], host)
        image, _, layout = make_image(recipe, opened, [contribution], host, lambda _: None)
        return recipe_subject(recipe, opened, contribution, image, layout, host)

    return made


def boot(subject: Subject, display: Display) -> ProfileVerdict:
    return prove(subject, Shows(display))


RIGHT = {
    "as OVMF shows it": Display(),
    "red lowest": Display(pixel_format=RGB),
    "lines that are longer than what is seen": Display(padding=24),
    "masks of 16 bits": Display(pixel_format=BIT_MASK, masks=(0xF800, 0x07E0, 0x001F, 0)),
    "masks of ten bits, and two that are reserved": Display(
        pixel_format=BIT_MASK, masks=(0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)
    ),
    "above 4 GiB": Display(base=4 * GiB),
    "no pixels in memory": Display(pixel_format=BLT_ONLY),
    "masks of nothing": Display(pixel_format=BIT_MASK),
}


@pytest.fixture
def hello(make: Make, hello64: Path) -> Subject:
    return make(hello64, 'startup = "startup_64"')


@pytest.mark.parametrize("name", RIGHT)
def test_a_screen_of_any_kind_is_in_the_record_or_absent(name: str, hello: Subject) -> None:
    """The judge compares the record with what is shown, and with nothing where no kernel could reach it."""
    verdict = boot(hello, RIGHT[name])
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)


def test_it_is_there_beside_boot_services(make: Make, hello64: Path) -> None:
    verdict = boot(make(hello64, 'startup = "startup_64"', "boot_services = true"), Display(padding=24))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)


@dataclass(frozen=True)
class Misread(Display):
    """The judge is told of longer lines than the firmware tells of."""

    def information(self, number: int) -> bytes:
        width, _ = MODES[number]
        return super().information(number)[:-4] + struct.pack("<I", width)


def test_a_front_that_takes_the_width_for_the_length_of_a_line_is_found(hello: Subject) -> None:
    verdict = boot(hello, Misread(padding=24))
    (finding,) = verdict.findings
    assert finding.rule == "BB-H007"
    assert "pitch=5120" in finding.message and "gave" in finding.message


SHOWN = {"address": "0xc0000000", "width": 1280, "height": 800, "pitch": 5120, "bits_per_pixel": 32}


def test_linux_finds_it_and_efi(make: Make, gcc: Path, tmp_path: Path) -> None:
    kernel = foreign_kernels.compile_kernel("linux", tmp_path)
    start = read_elf(FileContent(kernel), "kernel").entry
    subject = make(kernel, f'guest = "linux"\nelf_class = 32\nstartup = {start}\nwidth = 32')
    verdict = boot(subject, Display())
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["efi"] == "EL64"
    assert verdict.handover["screen"] == {"type": "0x70", **SHOWN}
    (finding,) = boot(subject, Misread(padding=24)).findings
    assert finding.rule == "BB-H030"


def test_debians_own_stub_finds_it(make: Make, kernels: Kernels) -> None:
    symbols = f"symbols = {json.dumps(str(kernels.cloud.system_map))}"
    subject = make(kernels.cloud.vmlinuz, f'guest = "linux"\n{symbols}', 'entry = "native"')
    verdict = boot(subject, Display(padding=24))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    assert verdict.handover["screen"] == {"type": "0x70", **SHOWN, "pitch": 5216}
    (finding,) = boot(subject, Misread(padding=24)).findings
    assert finding.rule == "BB-H030"


def test_a_multiboot2_kernel_finds_it(make: Make, gcc: Path, tmp_path: Path) -> None:
    kernel = foreign_kernels.compile_kernel("multiboot2", tmp_path)
    subject = make(kernel, 'guest = "multiboot2"\nelf_class = 32')
    verdict = boot(subject, Display(padding=24))
    assert (verdict.findings, verdict.outcome) == ((), Outcome.BOOTED)
    assert verdict.handover is not None
    (tag,) = [tag["body"] for tag in verdict.handover["tags"] if tag["type"] == 8]
    pixels = struct.pack("<Q3I2B2x6B", 0xC0000000, 5216, 1280, 800, 32, 1, 16, 8, 8, 8, 0, 8)
    assert bytes.fromhex(tag) == pixels
    (finding,) = boot(subject, Misread(padding=24)).findings
    assert (finding.rule, finding.message[:13]) == ("BB-H047", "tag 8 is not ")
