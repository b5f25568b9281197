"""The Linux front, wherever a loader has put what it hands over: what the record says, and why it stops."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.api import FileContent, Framebuffer, MapEntry, Span
from bootbuild.boot.prove import prove
from bootbuild.boot.subject import request_subject
from bootbuild.host import Host
from bootbuild.model.request import BootRequest
from bootbuild.model.verdict import Outcome
from bootbuild.pipeline import BUDGET, TIMEOUT
from hello_bzimage import Kind
from linux_anywhere import MAP, RSDP, Anywhere, GiB, MiB, Places
from linux_starts import KINDS, Images, boot, check


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [32, 64])
def test_a_kernel_of_either_width_starts_from_either_entry(images: Images, width: int, kind: Kind) -> None:
    check(boot(images, Places(width), kind))


LOADED: dict[str, Callable[[int], int]] = {
    "where it goes itself": lambda place: place,
    "a little below": lambda place: place - 0x1000,
    "a little above": lambda place: place + 0x1000,
    "far above": lambda _: 96 * MiB,
}
ABOVE = {
    "above 4 GiB": 4 * GiB + 16 * MiB,
    "across a border of a granule": 4 * GiB + 18 * MiB - 0x1000,
}


@pytest.mark.parametrize("at", LOADED.values(), ids=LOADED)
@pytest.mark.parametrize("width", [32, 64])
def test_it_goes_to_its_place_from_wherever_it_was_loaded(
    images: Images, width: int, at: Callable[[int], int]
) -> None:
    check(boot(images, Places(width, kernel=at(images.place))))


@pytest.mark.parametrize("at", ABOVE.values(), ids=ABOVE)
def test_a_64_bit_loader_may_have_put_it_above_4_gib(images: Images, at: int) -> None:
    check(boot(images, Places(64, kernel=at)))


def test_what_lies_above_4_gib_is_copied_down(images: Images) -> None:
    params = 4 * GiB + 4 * MiB
    places = Places(64, 4 * GiB + 32 * MiB, params, params + 0x1FFFF8, 4 * GiB + 64 * MiB - 0x1000)
    verdict = boot(images, places, native_map=Span(0, 0))  # the copy is no map of the environment's
    assert verdict.outcome is Outcome.BOOTED, verdict.findings
    assert verdict.handover is not None
    stub = verdict.handover["stub"]
    base, size = int(stub["base"], 0), int(stub["size"], 0)
    assert int(verdict.handover["data"], 0) in range(base, base + size)


def test_a_32_bit_loader_may_put_initrd_and_command_line_above_4_gib(images: Images) -> None:
    check(boot(images, Places(32, cmdline=4 * GiB + 0x1234, ramdisk=4 * GiB + 3 * MiB)))


def test_more_e820_comes_in_setup_data_among_nodes_of_other_types(images: Images) -> None:
    more = (MapEntry(0x100000000, 4096, 7), MapEntry(0xE0000000, 0x10000, 2))
    packed = b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in more)
    far = 4 * GiB + 0x1000
    nodes = ((0x30000, far, 9, bytes(32)), (far, 0x31000, 1, packed), (0x31000, 0, 0x80000005, bytes(24)))
    whole = tuple(sorted((*MAP[:3], *more), key=lambda entry: entry.address))
    check(boot(images, Places(memory_map=MAP[:3], nodes=nodes), memory_map=whole))


@pytest.mark.parametrize("at", [0x32000, 4 * GiB + 0x2000])
def test_more_e820_may_lie_elsewhere(images: Images, at: int) -> None:
    """boot.rst's own example of SETUP_INDIRECT, among some that say nothing of memory."""
    more = (MapEntry(0x100000000, 4096, 7), MapEntry(0xE0000000, 0x10000, 2))
    packed = b"".join(struct.pack("<QQI", e.address, e.size, e.type) for e in more)
    indirect, own = 1 << 31, MAP[:3]

    def leads(kind: int, size: int = len(packed)) -> bytes:
        return struct.pack("<IIQQ", kind, 0, size, at)

    nodes = (
        (0x30000, 0x30100, indirect, leads(indirect | 9)),
        (0x30100, 0x30200, indirect, leads(indirect | 1)[:-1]),
        (0x30200, 0x30300, indirect, leads(indirect | 1)),
        (0x30300, at - 16, indirect | 1, leads(1)),
        (at - 16, 0, 9, packed),
    )
    whole = tuple(sorted((*own, *more), key=lambda entry: entry.address))
    check(boot(images, Places(memory_map=own, nodes=nodes), memory_map=whole))


def e820(*sizes: int) -> dict[int, bytes]:
    """alt_mem_k and ext_mem_k of a loader that has no table."""
    alternative, extended = sizes
    return {0x1E0: struct.pack("<I", alternative), 0x002: struct.pack("<H", extended)}


@pytest.mark.parametrize("fields", [e820(127 * 1024, 0xFC00), e820(0, 0xFC00)], ids=["E801", "88h"])
def test_memory_without_a_table_is_what_the_older_calls_say(images: Images, fields: dict[int, bytes]) -> None:
    upper = 127 * MiB if any(fields[0x1E0]) else 0xFC00 << 10
    own = (MapEntry(0, 0x9F000, 1), MapEntry(MiB, upper, 1))
    places = Places(memory_map=(), fields=fields, ramdisk=32 * MiB)
    check(boot(images, places, memory_map=own, native_map=Span(0, 0)))


def test_an_rsdp_above_4_gib_is_absent(images: Images) -> None:
    check(boot(images, Places(fields={0x070: struct.pack("<Q", 5 * GiB)}), rsdp=0))


def screen(kind: int, base: int = 0xFD000000, high: int = 0) -> dict[int, bytes]:
    """1024x768x32 of screen_info; with `high` its address has an upper half."""
    return {
        0x0F: bytes([kind]),
        0x12: struct.pack("<HHHII", 1024, 768, 32, base, 48),
        0x24: struct.pack("<H8B", 4096, 8, 16, 8, 8, 8, 0, 8, 24),
        0x36: struct.pack("<II", 2 if high else 0, high),
    }


@pytest.mark.parametrize("kind", [0x23, 0x70], ids=["VESA", "EFI"])
def test_a_framebuffer_of_pixels_is_passed_on(images: Images, kind: int) -> None:
    shown = Framebuffer(0xFD000000, 1024, 768, 4096, 32, (16, 8, 8, 8, 0, 8))
    check(boot(images, Places(fields=screen(kind)), framebuffer=shown))


def test_a_framebuffer_that_nobody_gave_is_a_finding(images: Images) -> None:
    (finding,) = boot(images, Places(fields=screen(0x70))).findings
    assert re.fullmatch(r"framebuffer is 0x2[0-9a-f]{5}, the environment gave none", finding.message)


@pytest.mark.parametrize("fields", [screen(1), screen(0x23, high=0xFF)], ids=["text", "above 4 GiB"])
def test_another_framebuffer_is_not(images: Images, fields: dict[int, bytes]) -> None:
    check(boot(images, Places(fields=fields)))


def test_a_loader_that_copied_more_than_the_header_has_said_nothing_of_the_rest(images: Images) -> None:
    """boot.rst, and sanitize_boot_params of asm/bootparam_utils.h: no upper halves, and no acpi_rsdp_addr."""
    rest = {0x0C0: struct.pack("<3I", 0xAAAA, 0, 0xBBBB), 0x070: struct.pack("<Q", RSDP + 0x1000)}
    fields = {0x1EF: b"\xff", **rest}
    check(boot(images, Places(fields=fields)))


def test_the_real_mode_code_says_by_ebx_that_it_came(images: Images) -> None:
    places = Places(registers={"rbx": 0x4F484242})
    check(boot(images, places, boot_type=6, native_map=Span(0, 0)))


FRONT = "bootbuild: cannot start from the Linux boot protocol: "
HEAD = "bootbuild: cannot unpack the kernel: "
WAY = "boot_params, the command line or the initrd lies where it goes"
NO_RAM = (MapEntry(0, 0x9F000, 1), MapEntry(MiB, MiB, 1), MapEntry(32 * MiB, 64 * MiB, 1))
LOOP = ((0x30000, 0x30000, 9, bytes(8)),)
DIES: dict[str, tuple[Callable[[int], Places], str]] = {
    "no header": (
        lambda _: Places(fields={0x202: bytes(4)}),
        FRONT + "there is no boot_params with the setup header",
    ),
    "a short map": (lambda _: Places(memory_map=NO_RAM), HEAD + "there is no RAM where it goes"),
    "no map": (lambda _: Places(memory_map=()), FRONT + "boot_params has no memory map"),
    "129 entries": (
        lambda _: Places(fields={0x1E8: b"\x81"}),
        FRONT + "boot_params counts more than 128 entries of e820",
    ),
    "boot_params in the way": (lambda place: Places(params=place), HEAD + WAY),
    "a command line in the way": (lambda place: Places(cmdline=place), HEAD + WAY),
    "an initrd in the way": (lambda _: Places(ramdisk=0x160000), HEAD + WAY),
    "too near": (
        lambda place: Places(kernel=place - 0x800),
        HEAD + "it was loaded less than a page from where it goes",
    ),
    "setup_data in a circle": (lambda _: Places(nodes=LOOP), FRONT + "the list of setup_data does not end"),
}


@pytest.mark.parametrize(("places", "reason"), DIES.values(), ids=DIES)
def test_what_cannot_go_on_says_why_and_stops(
    images: Images, places: Callable[[int], Places], reason: str
) -> None:
    verdict = boot(images, places(images.place))
    assert verdict.outcome is Outcome.FAILED
    assert verdict.runs[0].console.decode().replace("\r", "") == reason + "\n"


def test_a_command_line_of_more_than_8191_bytes_is_refused(images: Images) -> None:
    request = BootRequest(images.paths[64, "none"], ("linux",), cmdline=b"x" * 8192)
    subject = request_subject(request, Host.discover(), BUDGET, TIMEOUT)
    for at in (0x20000, 4 * GiB):
        verdict = prove(subject, Anywhere(Places(cmdline=at)))
        assert verdict.outcome is Outcome.FAILED
        said = verdict.runs[0].console.decode()
        assert said == FRONT + "the command lines take more than 8192 bytes\r\n"


def corrupt(images: Images, at: int, data: bytes, folder: Path) -> Images:
    """`data` over the packed kernel, `at` bytes behind its start, or before its end."""
    raw = bytearray(images.paths[64, "lz4"].read_bytes())
    offset, length = struct.unpack_from("<II", raw, 0x248)
    start = (raw[0x1F1] + 1) * 512 + offset + (at if at >= 0 else length + at)
    raw[start : start + len(data)] = data
    path = folder / "corrupt.bzimage"
    path.write_bytes(raw)
    return Images({**images.paths, (64, "lz4"): path}, images.initrd)


@pytest.mark.parametrize(
    ("at", "data"),
    [(0, b"\x03"), (4, b"\xff\xff\xff\x7f"), (8, b"\xf0\xff\xff\xff\xff"), (-4, b"\1\0\0\0")],
    ids=["magic", "block size", "length", "size"],
)
def test_a_damaged_kernel_is_not_started(images: Images, tmp_path: Path, at: int, data: bytes) -> None:
    """Whole boots of files that bootbuild's own reader refuses: the subject is of the sound one."""
    damaged = corrupt(images, at, data, tmp_path)
    request = BootRequest(images.paths[64, "lz4"], ("linux",))
    subject = request_subject(request, Host.discover(), BUDGET, TIMEOUT)
    image = replace(subject.image, packing=FileContent(damaged.paths[64, "lz4"]))
    verdict = prove(replace(subject, image=image), Anywhere(Places()))
    assert verdict.outcome is Outcome.FAILED
    said = "bootbuild: cannot start the kernel that is packed in this bzImage: its LZ4 data is damaged\r\n"
    assert verdict.runs[0].console.decode() == said
