"""An odd initrd, table, console, screen or command line: it is taken, or it is told why not."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootbuild.api import MemoryContent
from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.graphics import BLT_ONLY, Display, Graphics
from bootbuild.platform.uefi.start import Traits
from started_application import Answer, Application, at_first, booted, instead, recipe, split

LOAD_FILE = "LoadFile2.LoadFile"
UNREADABLE = "the initrd cannot be read"
CON_OUT, TABLE_COUNT, TABLES = 0x40, 0x68, 0x70  #: offsets in EFI_SYSTEM_TABLE


@pytest.fixture(scope="module")
def hello(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    return Application.build(recipe(hello64), tmp_path_factory.mktemp("efi"), hello64)


# -- an initrd by LoadFile2 ----------------------------------------------------------------------------

INITRD = bytes(range(256)) * 20


@dataclass
class Medium:
    """Answers of LoadFile2, by the number of the call: status, size, and how much of the initrd is read."""

    answers: tuple[tuple[int, int, int], ...]
    calls: int = 0

    def __call__(self, _: Answer, call: Call) -> int:
        code, size, read = self.answers[self.calls]
        self.calls += 1
        call.write64(call[3], size)
        if read:
            call.write(call[4], INITRD[:read])
        return code


SMALL, SIZE = status.BUFFER_TOO_SMALL, len(INITRD)
#: what LoadFile2 answers, and what becomes of it: a module of so many bytes, none, or a refusal
MEDIA: dict[str, tuple[tuple[tuple[int, int, int], ...], int | str]] = {
    "an initrd": (((SMALL, SIZE, 0), (0, SIZE, SIZE)), SIZE),
    "one that has become smaller": (((SMALL, SIZE, 0), (0, 5000, 5000)), 5000),
    "one that has become larger": (((SMALL, 5000, 0), (SMALL, SIZE, 0)), UNREADABLE),
    "more than there is room for, by what it says": (((SMALL, 4096, 0), (0, 4097, 4096)), UNREADABLE),
    "none after all": (((status.NOT_FOUND, 0, 0),), 0),
    "one of no bytes": (((SMALL, 0, 0),), 0),
    "one of no bytes, read at once": (((0, 0, 0),), 0),
    "a medium that fails": (((status.DEVICE_ERROR, 0, 0),), UNREADABLE),
    "a medium that fails later": (((SMALL, SIZE, 0), (status.DEVICE_ERROR, SIZE, 0)), UNREADABLE),
    "one of more than there is": (((SMALL, 1 << 40, 0),), "no memory for the initrd"),
    "one of all that can be counted": (((SMALL, (1 << 64) - 1, 0),), "no memory for the initrd"),
}


@pytest.mark.parametrize("name", MEDIA)
def test_what_load_file2_answers(hello: Application, name: str) -> None:
    answers, what = MEDIA[name]
    medium = Medium(answers)
    run = hello.run(hello.started(initrd=MemoryContent(INITRD)), instead(LOAD_FILE, medium))
    assert medium.calls == len(answers)
    if isinstance(what, str):
        assert run.refused == what
    else:
        assert booted(run).contents == ((INITRD[:what],) if what else ())


# -- tables, consoles and the screen -------------------------------------------------------------------


def test_without_a_console_it_says_nothing(hello: Application) -> None:
    started = hello.started()
    table = started.firmware.system_table
    split(started, 1400)
    run = hello.run(started, at_first(lambda call: call.cpu.write_physical(table + CON_OUT, bytes(8))))
    assert (run.console, run.record) == ("", None)
    assert "returned EFI_OUT_OF_RESOURCES" in run.detail


def test_the_old_root_pointer_counts_where_there_is_no_new_one(hello: Application) -> None:
    started = hello.started()
    table, found = started.firmware.system_table, {}

    def hide(call: Call) -> None:
        count, at = struct.unpack("<QQ", call.cpu.read_physical(table + TABLE_COUNT, 16))
        for number in range(count):
            entry = call.cpu.read_physical(at + 24 * number, 24)
            found[entry[:16]] = int.from_bytes(entry[16:], "little")
            if entry[:16] == guids.guid("8868e871-e4f1-11d3-bc22-0080c73c8881"):
                call.cpu.write_physical(at + 24 * number, bytes(16))

    run = booted(hello.run(started, at_first(hide)))
    assert run.record is not None
    assert run.record.rsdp == found[guids.guid("eb9d2d30-2d88-11d3-9a16-0090273fc14d")]


def test_without_configuration_tables_there_is_no_root_pointer(hello: Application) -> None:
    started = hello.started()
    table = started.firmware.system_table
    run = booted(
        hello.run(started, at_first(lambda call: call.cpu.write_physical(table + TABLE_COUNT, bytes(16))))
    )
    assert run.record is not None
    assert run.record.rsdp == 0


@dataclass(frozen=True)
class Lies(Display):
    """A screen whose lines, or whose memory, are other than the firmware says."""

    line: int | None = None
    memory: int | None = None

    def information(self, number: int) -> bytes:
        right = super().information(number)
        return right if self.line is None else right[:-4] + struct.pack("<I", self.line)

    def size(self, number: int) -> int:
        return super().size(number) if self.memory is None else self.memory


@pytest.mark.parametrize(
    ("display", "shown"),
    [
        (Lies(), True),
        (Lies(base=5 << 30), False),
        (Lies(line=1279), False),
        (Lies(line=0), False),
        (Lies(line=0x40000000), False),
        (Lies(line=0xFFFFFFFF), False),
        (Lies(memory=1280 * 4 * 800), True),
        (Lies(memory=1280 * 4 * 800 - 1), False),
        (Lies(memory=0), False),
    ],
)
def test_a_screen_that_cannot_be_is_not_handed_on(hello: Application, display: Lies, shown: bool) -> None:
    run = booted(hello.run(hello.started(traits=Traits(display=display))))
    assert (run.framebuffer is not None) is shown


def test_the_first_screen_with_pixels_counts(hello: Application) -> None:
    """Firmware makes one of several, which has none itself."""
    started = hello.started(traits=Traits(display=Display(pixel_format=BLT_ONLY)))
    firmware, second = started.firmware, Display(base=0xB0000000, padding=8)

    def add(_: Call) -> None:
        Graphics(firmware, second, firmware.keep(bytes(64)))

    assert booted(hello.run(started, at_first(add))).framebuffer == second.framebuffer(0)


# -- command lines -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_arguments(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A module with a command line of 4000 bytes: 4191 are left."""
    folder = tmp_path_factory.mktemp("efi")
    (folder / "module").write_bytes(b"x")
    module = f'[[payload.modules]]\npath = "module"\ncmdline = "{"y" * 4000}"'
    return Application.build(recipe(hello64, more=module), folder, hello64)


def test_command_lines_fit_up_to_the_last_byte(with_arguments: Application) -> None:
    options = f"{'x' * 4190}\0".encode("utf-16-le")
    booted(with_arguments.run(with_arguments.started(options=options)))


@pytest.mark.parametrize("length", [4191, 32767])
def test_command_lines_that_are_too_long_together_are_told_in_time(
    with_arguments: Application, length: int
) -> None:
    """Not when the firmware has gone, and nobody hears of it."""
    options = f"{'x' * length}\0".encode("utf-16-le")
    run = with_arguments.run(with_arguments.started(options=options))
    assert run.refused == "the command lines take more than 8192 bytes, with the NUL of each"
    assert "BootServices.ExitBootServices" not in run.calls


def test_options_of_no_bytes_are_not_read(hello: Application) -> None:
    """Nor is what they point to, which may be no memory."""
    started = hello.started()

    def point(call: Call) -> None:
        loaded = started.firmware.handles.interface(started.program.handle, guids.LOADED_IMAGE)
        call.cpu.write_physical(loaded + 0x38, (1 << 60).to_bytes(8, "little"))

    booted(hello.run(started, at_first(point)))
