"""Firmware whose memory map or end of boot services is odd: the kernel is started, or it says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.api import Cpu, load_blob
from bootbuild.api.machine import Cpuid
from bootbuild.machine import Machine
from bootbuild.model.span import Span
from bootbuild.model.trace import StopKind
from bootbuild.platform.uefi import status
from bootbuild.platform.uefi.call import Call
from bootbuild.platform.uefi.ovmf import MemoryType
from bootbuild.platform.uefi.pages import Refused
from started_application import Answer, Application, Around, booted, instead, recipe, split

MiB, PAGE = 1 << 20, 4096
GET_MAP, EXIT = "BootServices.GetMemoryMap", "BootServices.ExitBootServices"
ALLOCATE = "BootServices.AllocatePages"
TOO_LARGE = "the firmware's memory map is larger than 64 KiB, or than 1024 entries"
UNTOLD = "the firmware does not tell its memory map"


@pytest.fixture(scope="module")
def hello(hello64: Path, tmp_path_factory: pytest.TempPathFactory) -> Application:
    return Application.build(recipe(hello64), tmp_path_factory.mktemp("efi"), hello64)


CR4_PGE = 0x80
ENCRYPTION, SEV_STATUS = 0x8000001F, 0xC0010131  #: AMD64 manual, volume 2, 15.34.1 and 15.34.10


def test_what_the_firmware_maps_as_global_does_not_outlive_it(hello: Application) -> None:
    """Else the copier is executed with the rights that its page had before (SDM 3A, 4.10.4.1)."""
    record = hello.run(hello.started()).record
    assert record is not None
    _, offset = load_blob("bootbuild_efi", "efi_landing").exports["bb_efi_landing"]
    scene = hello.scene(hello.started())
    state = replace(scene.state, cr4=scene.state.cr4 | CR4_PGE)
    with Machine(replace(scene, state=state)) as machine:
        checkpoints = {record.stub_base + offset: "landing"}
        end = machine.run(checkpoints=checkpoints, budget=50_000_000, seconds=60)
        assert end.kind is StopKind.CHECKPOINT
        assert not machine.get("cr4") & CR4_PGE


# -- the memory map ------------------------------------------------------------------------------------


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


def test_a_page_that_a_timer_takes_before_it_is_allocated(hello: Application) -> None:
    started = hello.started()
    maps: list[bool] = []

    def take(answer: Answer, call: Call) -> int | None:
        code = answer(call)
        maps.append(True)
        if len(maps) % 4:
            pages = started.firmware.pages
            free = max(span.end for span, kind in pages if kind == MemoryType.CONVENTIONAL)
            pages.convert(Span(free - PAGE, PAGE), MemoryType.BOOT_SERVICES_DATA)
        return code

    run = booted(hello.run(started, instead(GET_MAP, take)))
    assert run.calls[1:9] == (GET_MAP, ALLOCATE) * 4


def test_memory_that_is_free_and_never_given(hello: Application) -> None:
    def refuse(_: Answer, call: Call) -> int:
        raise Refused(status.NOT_FOUND)

    run = hello.run(hello.started(), instead(ALLOCATE, refuse))
    assert run.refused == "no memory"
    assert run.calls.count(ALLOCATE) == 4


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


@pytest.mark.parametrize(
    ("last", "able", "on", "refused"),
    [
        (ENCRYPTION, 2, 1, True),
        (ENCRYPTION, 2, 0, False),
        (ENCRYPTION, 1, 1, False),
        (0x80000008, 2, 1, False),
    ],
)
def test_memory_that_is_encrypted(hello: Application, last: int, able: int, on: int, refused: bool) -> None:
    """A processor may be able to, and say nothing of it, or not do it."""
    started = hello.started()
    own = started.firmware.cpuid

    def cpuid(cpu: Cpu, leaf: int, subleaf: int, native: Cpuid) -> Cpuid:
        answers = {0x80000000: (last, 0, 0, 0), ENCRYPTION: (able, 0, 0, 0)}
        return answers.get(leaf) or own(cpu, leaf, subleaf, native)

    def read_msr(cpu: Cpu, index: int) -> int | None:
        return on if index == SEV_STATUS else None

    started.firmware.cpuid = cpuid  # type: ignore[method-assign]
    started.firmware.read_msr = read_msr  # type: ignore[method-assign]
    run = hello.run(started)
    if refused:
        assert run.refused == "memory is encrypted (SEV), which its page tables do not allow for"
    else:
        booted(run)
