"""Where the application finds room for all that it takes: to the last page, and not a page less."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bootbuild.model.span import Span, align_up
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.ovmf import MemoryType
from bootbuild.platform.uefi.pages import Refused
from bootbuild.platform.uefi.pe_image import read_pe
from bootbuild.platform.uefi.protection import NO_EXECUTE, READ_ONLY
from bootbuild.platform.uefi.start import Started, Traits
from started_application import Answer, Application, Run, instead, recipe
from workshop import Workshop

MiB, PAGE = 1 << 20, 4096


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
