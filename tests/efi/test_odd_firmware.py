"""Firmware that is odd, and allowed to be, or wrong: the application starts its kernel, or says why not."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootbuild.api import MemoryContent
from bootbuild.model.span import Span, align_up
from bootbuild.platform.uefi import guids, status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.graphics import Display
from bootbuild.platform.uefi.ovmf import MemoryType
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import read_pe
from bootbuild.platform.uefi.protection import NO_EXECUTE, READ_ONLY
from bootbuild.platform.uefi.start import Started, Traits
from started_application import Answer, Application, Around, Run
from workshop import Workshop

MiB, PAGE = 1 << 20, 4096
GET_MAP, EXIT, LOAD_FILE = "BootServices.GetMemoryMap", "BootServices.ExitBootServices", "LoadFile2.LoadFile"
TOO_LARGE = "the firmware's memory map is larger than 64 KiB, or than 1024 entries"
UNTOLD = "the firmware does not tell its memory map"
UNREADABLE = "the initrd cannot be read"
#: offsets in EFI_SYSTEM_TABLE
CON_OUT, TABLE_COUNT, TABLES = 0x40, 0x68, 0x70


def recipe(kernel: Path, target: str = "", more: str = "", startup: str = '"startup_64"') -> str:
    return f"""
        api = 1
        [payload]
        path = {json.dumps(str(kernel))}
        startup = {startup}
        {more}
        [targets.efi]
        profiles = ["ovmf"]
        {target}
    """


@pytest.fixture(scope="module")
def hello(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    return Application.build(recipe(hello64), tmp_path_factory.mktemp("efi"), hello64)


def at_first(do: Callable[[Call], None]) -> Around:
    """Before the first service is answered."""
    done: list[bool] = []

    def around(_: str, answer: Answer, call: Call) -> int | None:
        if not done:
            done.append(True)
            do(call)
        return answer(call)

    return around


def instead(name: str, do: Callable[[Answer, Call], int | None]) -> Around:
    return lambda called, answer, call: do(answer, call) if called == name else answer(call)


def booted(run: Run) -> Run:
    assert run.console.endswith("hello: done\n"), (run.console, run.detail)
    assert run.record is not None
    return run


# -- the memory map ------------------------------------------------------------------------------------


def split(started: Started, pieces: int) -> None:
    """Give every other page of some memory another type, so that the map has so many pieces more."""
    pages = started.firmware.pages
    at = next(span.start for span, kind in pages if kind == MemoryType.CONVENTIONAL and span.size > 32 * MiB)
    for number in range(pieces // 2):
        pages.convert(Span(at + (2 * number + 1) * PAGE, PAGE), MemoryType.RUNTIME_DATA)


def test_a_map_that_grows_at_each_call(hello: Application) -> None:
    started = hello.started()

    def grow(answer: Answer, call: Call) -> int | None:
        split(started, 20)
        return answer(call)

    booted(hello.run(started, instead(GET_MAP, grow)))


@pytest.mark.parametrize("pieces", [1000, 1400])  # beside some 120: more than 1024, and more than 64 KiB
def test_a_map_that_is_too_large_is_said_to_be(hello: Application, pieces: int) -> None:
    started = hello.started()
    split(started, pieces)
    assert hello.run(started).refused == TOO_LARGE


def test_a_map_that_has_become_too_large_when_boot_services_are_to_end(hello: Application) -> None:
    started = hello.started()

    def grow(answer: Answer, call: Call) -> int | None:
        split(started, 1000)
        return answer(call)

    assert hello.run(started, instead(EXIT, grow)).refused == TOO_LARGE


def with_stride(stride: int) -> Around:
    """Descriptors that lie so far apart."""

    def told(answer: Answer, call: Call) -> int | None:
        size, buffer, _, at = (call[index] for index in range(4))
        code = answer(call)
        data = call.read(buffer, call.read64(size))
        rows = [data[i : i + 40].ljust(stride, b"\xa5")[:stride] for i in range(0, len(data), 48)]
        call.write(buffer, b"".join(rows))
        call.write64(size, len(rows) * stride)
        call.write64(at, stride)
        return code

    return instead(GET_MAP, told)


@pytest.mark.parametrize("stride", [40, 48, 56, 64, 72, 256])
def test_descriptors_lie_as_far_apart_as_the_firmware_says(hello: Application, stride: int) -> None:
    run = booted(hello.run(hello.started(), with_stride(stride)))
    assert run.record is not None
    assert run.record.efi_memmap_descriptor_size == stride
    assert run.record.efi_memmap_size % stride == 0


@pytest.mark.parametrize("stride", [0, 32])
def test_descriptors_that_would_overlap_are_no_map(hello: Application, stride: int) -> None:
    def told(answer: Answer, call: Call) -> int | None:
        code = answer(call)
        call.write64(call[3], stride)
        return code

    assert hello.run(hello.started(), instead(GET_MAP, told)).refused == UNTOLD


# -- the end of boot services --------------------------------------------------------------------------


def refusing(times: int, code: int = status.INVALID_PARAMETER) -> Around:
    """ExitBootServices fails so often."""
    left = [times]

    def refuse(answer: Answer, call: Call) -> int | None:
        if not left[0]:
            return answer(call)
        left[0] -= 1
        raise Refused(code)

    return instead(EXIT, refuse)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_exit_boot_services_may_be_refused_more_than_once(hello: Application, times: int) -> None:
    """The emulated firmware's own first refusal is one of them."""
    run = booted(hello.run(hello.started(), refusing(times - 1)))
    assert run.calls.count(EXIT) == times + 1


@pytest.mark.parametrize("code", [status.INVALID_PARAMETER, status.DEVICE_ERROR])
def test_boot_services_that_do_not_end(hello: Application, code: int) -> None:
    """Nothing but memory is asked for afterwards: the reason is on the serial port."""
    run = hello.run(hello.started(), refusing(9, code))
    assert run.refused == "the firmware does not end its boot services"
    later = run.calls[run.calls.index(EXIT) :]
    assert set(later) <= {EXIT, GET_MAP, "BootServices.FreePages"}
    assert later.count(EXIT) == (4 if code == status.INVALID_PARAMETER else 1)
    assert "RuntimeServices" not in "".join(later)


def test_memory_that_is_taken_when_boot_services_are_to_end(hello: Application) -> None:
    started = hello.started()

    def take(answer: Answer, call: Call) -> int | None:
        started.firmware.pages.convert(Span(MiB, PAGE), MemoryType.RUNTIME_DATA)
        return answer(call)

    assert (
        hello.run(started, instead(EXIT, take)).refused
        == "the memory that it is linked for is taken for good"
    )


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


# -- beside boot services ------------------------------------------------------------------------------


LINKED, HALT = 32 * MiB, b"\xf4\xeb\xfd"  #: hlt, and back to it
START = f"{LINKED}\nwidth = 64"


def scattered(folder: Path, count: int) -> Path:
    """A kernel of so many segments of two pages, between which there is one."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, LINKED, 64, 0, 0, 64, 56, count, 64, 0, 0
    )
    first = PAGE * (1 + (64 + 56 * count) // PAGE)
    for number in range(count):
        at = LINKED + 3 * PAGE * number
        header += struct.pack("<IIQQQQQQ", 1, 7, first + 2 * PAGE * number, at, at, 2 * PAGE, 2 * PAGE, PAGE)
    kernel = folder / f"kernel{count}.elf"
    kernel.write_bytes(header.ljust(first, b"\0") + HALT.ljust(2 * PAGE, b"\0") * count)
    return kernel


def beside_boot_services(folder: Path, count: int) -> Application:
    kernel = scattered(folder, count)
    return Application.build(recipe(kernel, "boot_services = true", startup=START), folder, kernel)


def test_as_many_pieces_as_a_payload_may_have(tmp_path: Path) -> None:
    """The stubs are one more: the plan's 160 (BB-W061), each allocated by itself."""
    run = (application := beside_boot_services(tmp_path, 159)).run(application.started())
    assert run.record is not None
    assert run.calls.count("BootServices.AllocatePages") > 159


def test_as_many_pieces_that_lie_in_each_others_way(tmp_path: Path) -> None:
    """Loaded where it is linked, the image's pieces lie where others will: all wait elsewhere."""
    kernel = scattered(tmp_path, 159)
    application = Application.build(recipe(kernel, startup=START), tmp_path, kernel)
    started = application.started(base=LINKED)
    assert started.program.span.start == LINKED
    run = application.run(started)
    assert run.record is not None
    assert run.calls.count("BootServices.AllocatePages") > 80


def test_a_module_that_lies_where_the_kernel_will_is_copied(tmp_path: Path) -> None:
    kernel, content = scattered(tmp_path, 1), bytes(range(256)) * 20
    (tmp_path / "module").write_bytes(content)
    module = '[[payload.modules]]\npath = "module"'
    application = Application.build(recipe(kernel, more=module, startup=START), tmp_path, kernel)
    section = read_pe(application.content).section(".module")
    assert section is not None
    run = application.run(application.started(base=LINKED - section.rva))
    assert run.contents == (content,)
    assert run.modules[0].address != LINKED


def test_attributes_of_memory_are_given_back_when_one_cannot_be_had(tmp_path: Path) -> None:
    application = beside_boot_services(tmp_path, 3)
    started = application.started(traits=Traits(memory_attribute=True, strict=True))
    protection, changes = started.firmware.protection, []
    assert protection is not None

    def around(name: str, answer: Answer, call: Call) -> int | None:
        if name not in ("MemoryAttribute.ClearMemoryAttributes", "MemoryAttribute.SetMemoryAttributes"):
            return answer(call)
        changes.append((name[16:19], call[1], call[2], call[3]))
        if name[16:19] == "Cle" and call[1] >= LINKED + 6 * PAGE:
            raise Refused(status.ACCESS_DENIED)
        return status.SUCCESS

    run = application.run(started, around)
    assert (
        run.refused == "the firmware has no memory that is writable and executable, as it needs beside them"
    )
    pieces = [(LINKED + 3 * PAGE * number, 2 * PAGE) for number in range(3)]
    cleared = [("Cle", *piece, NO_EXECUTE | READ_ONLY) for piece in pieces]
    assert changes == [*cleared, *(("Set", *piece, NO_EXECUTE) for piece in reversed(pieces))]


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
    assert EXIT not in run.calls


def test_options_of_no_bytes_are_not_read(hello: Application) -> None:
    """Nor is what they point to, which may be no memory."""
    started = hello.started()

    def point(call: Call) -> None:
        loaded = started.firmware.handles.interface(started.program.handle, guids.LOADED_IMAGE)
        call.cpu.write_physical(loaded + 0x38, (1 << 60).to_bytes(8, "little"))

    booted(hello.run(started, at_first(point)))


# -- where there is room -------------------------------------------------------------------------------


def leave(started: Started, *spans: Span) -> None:
    """Keep all memory that is free, but for these."""
    pages = started.firmware.pages
    for span, kind in list(pages):
        if kind == MemoryType.CONVENTIONAL:
            pages.convert(span, MemoryType.RUNTIME_DATA)
    for span in spans:
        pages.convert(span, MemoryType.CONVENTIONAL)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """A kernel of one piece."""
    folder = tmp_path_factory.mktemp("one")
    kernel = scattered(folder, 1)
    return Application.build(recipe(kernel, startup=START), folder, kernel)


@pytest.fixture(scope="module")
def target(one: Application) -> tuple[Span, Span]:
    """What kernel and stubs take up."""
    record = one.run(one.started()).record
    assert record is not None
    return Span(LINKED, 2 * PAGE), Span(record.stub_base, align_up(record.stub_size, PAGE))


@pytest.fixture(scope="module")
def yard(one: Application) -> int:
    """Bytes of the one allocation that it makes."""
    sizes: list[int] = []

    def note(answer: Answer, call: Call) -> int | None:
        sizes.append(call[2] * PAGE)
        return answer(call)

    one.run(one.started(), instead("BootServices.AllocatePages", note))
    (size,) = sizes
    return size


@pytest.mark.parametrize("where", ["above", "below", "elsewhere", "from 1 MiB on"])
def test_room_is_used_to_the_last_page(
    one: Application, target: tuple[Span, Span], yard: int, where: str
) -> None:
    """Beside what kernel and stubs take up, or not; a page less is no room."""

    def run(size: int) -> Run:
        started = one.started()
        at = {"above": target[1].end, "below": LINKED - size, "elsewhere": 2 * LINKED}.get(where, MiB)
        leave(started, *target, Span(at, size))
        return one.run(started)

    assert run(yard).record is not None
    assert run(yard - PAGE).refused == "no memory"


def test_there_is_no_room_below_1_mib(one: Application, target: tuple[Span, Span]) -> None:
    started = one.started()
    leave(started, *target, Span(0x1000, 0x9F000))
    assert one.run(started).refused == "no memory"


def test_the_kernels_place_is_looked_at_page_by_page(
    one: Application, target: tuple[Span, Span], yard: int
) -> None:
    """It may be in several pieces of the map, of types that will be free; each page of it counts."""
    room = Span(2 * LINKED, yard)
    kinds = (MemoryType.BOOT_SERVICES_DATA, MemoryType.BOOT_SERVICES_CODE, MemoryType.LOADER_DATA)
    started = one.started()
    leave(started, *target, room)
    for number, kind in enumerate(kinds):
        started.firmware.pages.convert(Span(target[1].start + number * PAGE, PAGE), kind)
    assert one.run(started).record is not None
    for at in (LINKED, LINKED + PAGE, target[1].start, target[1].end - PAGE):
        started = one.started()
        leave(started, *target, room)
        started.firmware.pages.convert(Span(at, PAGE), MemoryType.ACPI_NVS)
        assert one.run(started).refused == "the memory that it is linked for is taken for good"


#: how a kernel is to be moved, from where it is linked, and to where
MOVED = {
    "low": (LINKED, 64 * MiB),
    "high": (LINKED, 64 * MiB),
    "low, to 1 MiB": (LINKED + MiB, MiB),
    "high, to 1 MiB": (LINKED + MiB, MiB),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_kernel_is_moved_to_where_it_just_fits(
    workshop: Workshop, tmp_path: Path, yard: int, name: str
) -> None:
    load, to = MOVED[name]
    kernel = workshop.pie("efi-odd", 64)
    target = f'relocatable = "{name.partition(",")[0]}"'
    application = Application.build(recipe(kernel, target, f"load = {load:#x}"), tmp_path, kernel)

    def run(*spans: Span) -> Run:
        started = application.started()
        leave(started, Span(4 * LINKED, yard), *spans)
        return application.run(started)

    def stubs(run: Run) -> int:
        assert run.console.endswith("hello: done\n")
        (line,) = (line for line in run.console.splitlines() if line.startswith("stub "))
        return int(line.removeprefix("stub "), 16)

    whole = Span(load, 8 * MiB)
    linked = stubs(run(whole))
    size = next(
        size for size in range(linked - load, 8 * MiB, PAGE) if "hello: done" in run(Span(load, size)).console
    )
    for more in (0, 2 * MiB - PAGE):
        assert stubs(run(Span(to, size + more))) == linked - load + to
    reason = "the memory that it is linked for is taken, and none is free for it elsewhere"
    assert run(Span(to, size - PAGE)).refused == reason
    assert run(Span(to + PAGE, size + 2 * MiB - 2 * PAGE)).refused == reason
