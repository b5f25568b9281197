"""What the application makes of LoadOptions: its kernel's command line, as whoever loaded it meant it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.api import FileContent, Filling, Offer
from bootbuild.formats.elf_read import read_elf
from bootbuild.machine import Machine
from bootbuild.platform.flat32 import poison_of
from bootbuild.platform.uefi import guids, ovmf
from bootbuild.platform.uefi.firmware import Firmware
from bootbuild.platform.uefi.pe_image import read_pe
from bootbuild.platform.uefi.start import UNDEFINED, start
from bootbuild_efi.environments import Ovmf
from recipe_text import build_text

OWN, MiB = "its own", 1 << 20
#: UEFI Shell 2.2 §5.2: the shell gives it to the programs that it starts
SHELL_PARAMETERS = guids.guid("752f3136-4e16-4fdc-a22a-e5f46812f4ca")
Said = Callable[..., str]


@pytest.fixture(scope="module")
def said(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """The command line that hello finds, with these LoadOptions."""
    record = build_text(
        f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        cmdline = "{OWN}"
        [targets.efi]
        profiles = ["ovmf"]
        """,
        tmp_path_factory.mktemp("efi"),
    )
    application = FileContent(Path(record.images[0].path))
    image = replace(read_elf(FileContent(hello64), "hello"), packing=application)

    def of(options: bytes, *, shell: bool = False) -> str:
        scene = Ovmf().scene(image, Offer(), Filling.EXACT)
        poison = poison_of(Filling.EXACT, None, UNDEFINED)
        started = start(read_pe(application), ovmf.Ovmf(512 * MiB), poison, options=options)
        if shell:
            started.firmware.handles.install(started.program.handle, {SHELL_PARAMETERS: 0})
        scene = replace(
            scene,
            regions=started.regions,
            loads=started.loads,
            state=started.state,
            platform=started.firmware,
        )
        with Machine(scene) as machine:
            machine.run(checkpoints={}, budget=50_000_000, seconds=60)
        assert isinstance(scene.platform, Firmware)
        lines = bytes(scene.platform.console).decode().splitlines()
        assert lines[-1] == "hello: done"
        (found,) = (line for line in lines if line.startswith("cmdline "))
        return found.removeprefix("cmdline ")

    return of


def text(options: str) -> bytes:
    return f"{options}\0".encode("utf-16-le")


@pytest.mark.parametrize(
    ("options", "cmdline"),
    [
        (b"", OWN),
        (text(""), OWN),
        (text("one two"), "one two"),
        (text("one two")[:-2], "one two"),  # without a NUL
        (text("one") + text("two"), "one"),
        (text("\xfc \u20ac \U0001f600"), "\xfc \u20ac \U0001f600"),
        (b"\1\0\0\0of the firmware's", OWN),
        (b"x", OWN),
    ],
)
def test_text_takes_the_place_of_the_images_own_command_line(
    said: Said, options: bytes, cmdline: str
) -> None:
    assert said(options) == cmdline


@pytest.mark.parametrize(
    ("options", "cmdline"),
    [
        ("", OWN),
        ("kernel.efi", OWN),
        ("kernel.efi  ", OWN),
        ("fs0:\\a\\kernel.efi one  two", "one  two"),
        ('kernel.efi one="two three"', 'one="two three"'),
        ('"fs0:\\a b\\kernel.efi" one', "one"),
        ('"never closed one', OWN),
    ],
)
def test_the_shell_begins_it_with_the_programs_name(said: Said, options: str, cmdline: str) -> None:
    assert said(text(options), shell=True) == cmdline
    assert said(text(options)[:-2], shell=True) == cmdline
