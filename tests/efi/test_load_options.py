"""What the application makes of LoadOptions: its kernel's command line, as whoever loaded it meant it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.platform.uefi import guids
from bootbuild.platform.uefi.start import Traits
from started_application import Application

OWN = "its own"
EDGES = "\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff"  #: of each length in UTF-8
#: UEFI Shell 2.2 §5.2: the shell gives it to the programs that it starts
SHELL_PARAMETERS = guids.guid("752f3136-4e16-4fdc-a22a-e5f46812f4ca")
Said = Callable[..., str]


@pytest.fixture(scope="module")
def said(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """The command line that hello finds, with these LoadOptions."""
    recipe = f"""
        api = 1
        [payload]
        path = {json.dumps(str(hello64))}
        startup = "startup_64"
        cmdline = "{OWN}"
        [targets.efi]
        profiles = ["ovmf"]
    """
    application = Application.build(recipe, tmp_path_factory.mktemp("efi"), hello64)

    def of(options: bytes, *, shell: bool = False, secure_boot: bool = False) -> str:
        started = application.started(options=options, traits=Traits(secure_boot=secure_boot))
        if shell:
            started.firmware.handles.install(started.program.handle, {SHELL_PARAMETERS: 0})
        lines = application.run(started).console.splitlines()
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
        (text(" one"), " one"),
        (text(EDGES), EDGES),
        (text("\tone"), OWN),
        (text("one two")[:-2], "one two"),  # without a NUL
        (text("one") + text("two"), "one"),
        (text("\xfc \u20ac \U0001f600"), "\xfc \u20ac \U0001f600"),
        (text("one ")[:-2] + b"\x3d\xd8" + text(" two"), "one \ufffd two"),  # half a pair of surrogates
        (text("one ")[:-2] + b"\0\xde" + text("\U0001f600"), "one \ufffd\U0001f600"),
        (text("one ")[:-2] + b"\x3d\xd8", "one \ufffd"),
        (text("one") + b"\x3d", "one"),  # an odd number of bytes
        (text("one").ljust(1 << 16, b"\xa5"), "one"),
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


def test_under_secure_boot_it_takes_no_place_of_what_is_signed(said: Said) -> None:
    assert said(text("one two"), secure_boot=True) == OWN
