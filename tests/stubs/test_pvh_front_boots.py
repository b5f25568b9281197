"""The PVH front on QEMU: with what QEMU hands over, and with structures of our own in its place."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.model.waist import Piece, Waist
from bootbuild.stubs.load import load
from bootbuild.stubs.pieces import native, switches

WIDTHS = (64, 32)
RAM = ((0, 0x9F000, 1), (0x100000, 0x7E00000, 1))


@pytest.mark.parametrize("machine", ["pc", "microvm"])
@pytest.mark.parametrize("width", WIDTHS)
def test_hello_starts_on_qemu(
    width: int, machine: str, boot: Callable[..., str], pvh_image: Callable[..., Any], tmp_path: Path
) -> None:
    module = tmp_path / "module"
    module.write_bytes(bytes(range(256)) * 41)
    image = pvh_image(width)
    text = boot(image.path, machine=machine, more=["-append", "a b  c", "-initrd", str(module)])
    lines = text.splitlines()
    assert lines[0] == "hello from pvh on tcg"
    assert lines[1] == "cmdline a b  c"
    assert any(re.fullmatch(r"memory 0x100000 0x7[ef]\w{5} ram", line) for line in lines)
    (found,) = (line for line in lines if line.startswith("module"))
    assert found.endswith(f"size {256 * 41} crc32 {zlib.crc32(module.read_bytes()):#x}")
    record = int(next(line for line in lines if line.startswith("record")).split()[1], 16)
    assert record in image.stub
    assert f"stub {image.stub.start:#x}" in lines
    assert "unknown operation: -38" in lines
    assert lines[-1] == "hello: done"


def test_without_command_line_or_module_both_are_absent(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    text = boot(pvh_image(64, prepared=prepare(cmdline=None)).path)
    assert "\ncmdline (none)\n" in text
    assert "\nmodule" not in text


def test_long_mode_can_be_left_again(boot: Callable[..., str], pvh_image: Callable[..., Any]) -> None:
    front = Piece(load("bootbuild_pvh", "pvh_front"), "bb_pvh_entry", None, Waist(32))
    up, down = switches()
    text = boot(pvh_image(32, chain=(front, up, down, native(32))).path)
    assert text.startswith("hello from pvh")
    assert text.endswith("hello: done\n")


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_unpromised_is_relied_on(
    width: int, boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    """ESP, GDTR, all registers but EBX, DF and the stubs' NOBITS are garbage; so is the kernel's .bss."""
    text = boot(pvh_image(width, prepared=prepare(garbage=True), bss_garbage=True).path)
    assert "\ncmdline prepared\n" in text
    assert text.endswith("hello: done\n")


def test_the_map_is_sorted_and_has_no_empty_entry(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    given = (
        (0x100000, 0x7E00000, 1),
        (0xF0000, 0x10000, 2),
        (0x1000, 0, 1),
        (0, 0x9F000, 1),
        (1 << 40, 1, 77),
    )
    text = boot(pvh_image(64, prepared=prepare(memmap=given)).path)
    assert re.findall(r"^memory (.*)$", text, re.MULTILINE) == [
        "0x0 0x9f000 ram",
        "0xf0000 0x10000 reserved",
        "0x100000 0x7e00000 ram",
        "0x10000000000 0x1 unknown",
    ]


def test_modules_in_the_kernels_bss_are_moved_whole(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    """Three modules: in .bss, elsewhere, and in .bss again; each keeps its bytes and its command line."""
    probe = pvh_image(64)
    (bss,) = probe.params.zero
    first, second, third = b"one" * 1000, b"two" * 999, b"three" * 801
    modules = (
        (bss.start + 8, first, b"first of them"),
        (0x700000, second, None),
        (bss.end - 4096, third, b""),
    )
    free = ((0, 0x9F000, 1), (0x100000, 0x7E00000, 1), (probe.stub.end, 0x5000, 2))
    text = boot(pvh_image(64, prepared=prepare(modules=modules, memmap=free)).path)
    found = re.findall(r"^module (\d) at (\w+) size (\d+) crc32 (\w+)(?: cmdline (.*))?$", text, re.MULTILINE)
    assert [(int(size), int(crc, 16)) for _, _, size, crc, _ in found] == [
        (len(data), zlib.crc32(data)) for data in (first, second, third)
    ]
    assert [cmdline for *_, cmdline in found] == ["first of them", "", ""]
    places = [int(at, 16) for _, at, _, _, _ in found]
    assert places[1] == 0x700000
    assert places[0] >= probe.stub.end + 0x5000, "moved into memory that the map calls reserved"
    assert places[2] >= places[0] + len(first), "the second moved module overlaps the first"


def test_a_start_info_in_the_kernels_bss_is_copied(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    probe = pvh_image(64)
    (bss,) = probe.params.zero
    image = pvh_image(64, prepared=prepare(address=bss.start + 64))
    text = boot(image.path)
    assert "\nflags 0x4\n" in text
    data = re.search(r"^data (\w+)$", text, re.MULTILINE)
    assert data is not None
    assert int(data[1], 16) in image.stub


def test_rsdp_flags_and_data_are_handed_on(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    given = prepare(rsdp=0xE0000, flags=3)
    lines = boot(pvh_image(64, prepared=given).path).splitlines()
    assert {"rsdp 0xe0000", f"data {given.address:#x}", "flags 0x2"} <= set(lines)


def strings(total: int) -> dict[str, Any]:
    """Command lines that take `total` bytes, NULs included."""
    return {"cmdline": b"x" * 4999, "modules": ((0x700000, b"m", b"y" * (total - 5001)),)}


@pytest.mark.parametrize(
    "limit",
    [
        {"memmap": (*RAM, *((0x10000000 + i * 4096, 4096, 2) for i in range(1022)))},
        {"modules": tuple((0x700000 + i * 4096, b"m%d" % i, b"c%d" % i) for i in range(32))},
        strings(8192),
        {"rsdp": 0xFFFFFFFF},
    ],
    ids=["1024 map entries", "32 modules", "8192 bytes of command lines", "RSDP at the end of 4 GiB"],
)
def test_what_is_just_within_the_limits_starts(
    limit: dict[str, Any], boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    assert boot(pvh_image(64, prepared=prepare(**limit)).path).endswith("hello: done\n")


STOPS: dict[str, tuple[dict[str, Any], str]] = {
    "magic": ({"magic": 0x2BADB002}, "EBX does not point to an hvm_start_info"),
    "map": (
        {"memmap": (*RAM, *((0x10000000 + i * 4096, 4096, 2) for i in range(1023)))},
        "the memory map has more than 1024 entries",
    ),
    "map-count": ({"override": {"memmap_entries": 0xFFFFFFFF}}, "the memory map has more than 1024 entries"),
    "map-high": ({"override": {"memmap_paddr": 1 << 32}}, "the memory map lies above 4 GiB"),
    "map-end": ({"override": {"memmap_paddr": 0xFFFFFFF0}}, "the memory map lies above 4 GiB"),
    "no-map": (
        {"override": {"memmap_entries": 0}},
        "hvm_start_info has no memory map, and there is no Xen to ask for it",
    ),
    "version-0": ({"version": 0}, "hvm_start_info has no memory map, and there is no Xen to ask for it"),
    "modules": (
        {"modules": tuple((0x700000 + i * 4096, b"m", None) for i in range(33))},
        "there are more than 32 modules",
    ),
    "module-count": ({"override": {"nr_modules": 0xFFFFFFFF}}, "there are more than 32 modules"),
    "no-list": ({"override": {"nr_modules": 1}}, "hvm_start_info counts modules, but has no list of them"),
    "list-high": (
        {"override": {"nr_modules": 1, "modlist_paddr": 1 << 33}},
        "the module list lies above 4 GiB",
    ),
    "strings": (strings(8193), "the command lines take more than 8192 bytes"),
    "string-high": ({"override": {"cmdline_paddr": 1 << 32}}, "a command line lies above 4 GiB"),
    "rsdp-high": ({"rsdp": 1 << 32}, "the ACPI root pointer lies above 4 GiB"),
}


@pytest.mark.parametrize(("given", "reason"), STOPS.values(), ids=STOPS)
def test_a_front_that_cannot_go_on_says_why(
    given: dict[str, Any], reason: str, boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    text = boot(pvh_image(64, prepared=prepare(**given)).path)
    assert text == f"bootbuild: cannot start from PVH: {reason}\n"


def test_a_module_over_the_stubs_is_refused(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    stub = pvh_image(64).stub
    given = prepare(modules=((0x700000, b"m", None),), garbage=False, override={"modlist_paddr": 0x700000})
    given.modules = ((0x700000, (stub.end - 8).to_bytes(8, "little") + (64).to_bytes(24, "little"), None),)
    text = boot(pvh_image(64, prepared=given).path)
    assert text == "bootbuild: cannot start from PVH: a module was loaded over the stubs\n"


def test_no_room_for_a_module_is_refused(
    boot: Callable[..., str], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    probe = pvh_image(64)
    (bss,) = probe.params.zero
    full = ((0, 0x9F000, 1), (0x100000, probe.stub.end - 0x100000 + 4096, 1))
    given = prepare(modules=((bss.start, b"m" * 8192, None),), memmap=full)
    text = boot(pvh_image(64, prepared=given).path)
    assert text == (
        "bootbuild: cannot start from PVH: "
        "no free memory to which a module can be moved from the kernel's .bss\n"
    )


def test_the_reason_is_on_port_e9_too(
    qemu: Path, run_until: Callable[..., Any], pvh_image: Callable[..., Any], prepare: Any
) -> None:
    path = pvh_image(64, prepared=prepare(magic=0)).path
    command = [str(qemu), *"-accel tcg -machine pc -m 128 -nodefaults -display none -no-reboot".split()]
    command += "-chardev stdio,id=e9 -device isa-debugcon,iobase=0xe9,chardev=e9 -kernel".split()
    done = run_until([*command, str(path)], [r"bootbuild: cannot start from PVH: EBX .*\n"], timeout=30)
    assert done.reached, str(done)


def test_a_cpu_without_long_mode_is_told_so(
    qemu: Path, run_until: Callable[..., Any], pvh_image: Callable[..., Any]
) -> None:
    command = [str(qemu), *"-accel tcg -cpu qemu32 -machine pc -m 128 -nodefaults -display none".split()]
    command += ["-no-reboot", "-serial", "stdio", "-kernel", str(pvh_image(64).path)]
    done = run_until(command, [r"bootbuild: this CPU has no long mode"], timeout=30)
    assert done.reached, str(done)
