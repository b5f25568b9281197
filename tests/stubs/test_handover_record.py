"""Reading a record out of a guest: what is right is read, what is wrong is named, nothing is unbounded."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootbuild.abi import handover
from bootbuild.abi.handover import (
    Handover,
    MemoryEntry,
    ModuleEntry,
    boot_type_name,
    hypervisor_type_name,
    read_string,
)
from bootbuild.model.machine import Framebuffer

BASE = 0x10000


class Memory:
    """Guest memory of one range; beyond it nothing is mapped."""

    def __init__(self, data: bytes, base: int = BASE) -> None:
        self.data, self.base, self.asked = data, base, 0

    def read(self, address: int, size: int) -> bytes:
        self.asked += size
        if not self.base <= address <= address + size <= self.base + len(self.data):
            raise LookupError(hex(address))
        return self.data[address - self.base : address - self.base + size]


def record(extra: bytes = b"", /, **changes: int) -> bytes:
    """A right record, then what it points to, then its checksum made to fit the changes."""
    values = dict.fromkeys((name for name, _ in handover.LAYOUT), 0)
    values |= {"magic": handover.MAGIC, "version": 1, "size": handover.SIZE, "boot_type": 1} | changes
    code = "<" + "".join(code for _, code in handover.LAYOUT)
    if "checksum" not in changes:
        whole = struct.pack(code, *values.values()) + extra
        size = min(values["size"], len(whole)) & ~3
        values["checksum"] = -sum(struct.unpack(f"<{size // 4}I", whole[:size])) & 0xFFFFFFFF
    return struct.pack(code, *values.values()) + extra


def parse(data: bytes) -> Handover:
    return Handover.parse(Memory(data).read, BASE)


def test_a_record_is_read_with_all_that_it_points_to() -> None:
    at = BASE + handover.SIZE
    extra = struct.pack("<QQII", 0, 0x9F000, 1, 0) + struct.pack("<QQII", 1 << 40, 1 << 30, 7, 0)
    extra += struct.pack("<4Q", 0x800000, 5, at + 80 + 8, 0)
    extra += b"a b=c\0\0\0" + b"of a module\0" + bytes(4096)
    data = record(
        extra, memmap=at, memmap_count=2, modules=at + 48, module_count=1, cmdline=at + 80, rsdp=0xE0000
    )
    memory = Memory(data)
    found = Handover.parse(memory.read, BASE)
    assert found.rsdp == 0xE0000
    assert found.read_memory_map(memory.read) == (
        MemoryEntry(0, 0x9F000, 1),
        MemoryEntry(1 << 40, 1 << 30, 7),
    )
    assert found.read_modules(memory.read) == (ModuleEntry(0x800000, 5, at + 88),)
    assert found.read_cmdline(memory.read) == b"a b=c"
    assert read_string(memory.read, at + 88, "modules[0].cmdline") == b"of a module"


def test_a_screen_is_read_and_one_that_contradicts_itself_is_named() -> None:
    at = BASE + handover.SIZE

    def screen(size: int) -> Memory:
        pixels = struct.pack("<QQ4I6BH", 0xC0000000, size, 640, 480, 2560, 32, 16, 8, 8, 8, 0, 8, 0)
        return Memory(record(pixels, framebuffer=at))

    memory = screen(480 * 2560)
    found = Handover.parse(memory.read, BASE).read_framebuffer(memory.read)
    assert found == Framebuffer(0xC0000000, 640, 480, 2560, 32, (16, 8, 8, 8, 0, 8))
    memory = screen(4096)
    with pytest.raises(ValueError, match="framebuffer: 0x1000 bytes, 480 lines of 2560 are 0x12c000"):
        Handover.parse(memory.read, BASE).read_framebuffer(memory.read)
    memory = Memory(record(framebuffer=at))
    with pytest.raises(ValueError, match="framebuffer: 40 bytes at 0x100a8 cannot be read"):
        Handover.parse(memory.read, BASE).read_framebuffer(memory.read)


def test_what_is_absent_is_empty() -> None:
    memory = Memory(record())
    found = Handover.parse(memory.read, BASE)
    assert found.read_cmdline(memory.read) is None
    assert found.read_modules(memory.read) == ()
    assert found.read_framebuffer(memory.read) is None
    assert found.read_memory_map(memory.read) == ()


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    data = record(b"new field", version=7, size=handover.SIZE + 8)
    assert parse(data).version == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": 1}, f"magic: 0x1 is not {handover.MAGIC:#x}"),
        ({"version": 0}, "version: 0 is not 1 or later"),
        ({"size": handover.SIZE - 4}, "size: 164 is not a multiple of 4 from 168 to 4096"),
        ({"size": handover.SIZE + 2}, "size: 170 is not a multiple of 4 from 168 to 4096"),
        ({"size": 0xFFFFFFFC}, "size: 4294967292 is not a multiple of 4 from 168 to 4096"),
        ({"size": 4096}, "size: 4096 bytes at 0x10000 cannot be read"),
    ],
)
def test_a_wrong_frame_is_named(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        parse(record(**changes))


def test_one_wrong_bit_breaks_the_checksum() -> None:
    data = bytearray(record())
    data[0x5A] ^= 0x10
    with pytest.raises(ValueError, match=r"^checksum: the words add up to 0x100000, not 0$"):
        parse(bytes(data))


def test_a_record_that_is_not_mapped_is_named() -> None:
    with pytest.raises(ValueError, match=r"^record: 168 bytes at 0x10001 cannot be read$"):
        Handover.parse(Memory(record()).read, BASE + 1)


@pytest.mark.parametrize(
    ("changes", "method", "message"),
    [
        ({"module_count": 1025, "modules": BASE}, "read_modules", "module_count: 1025 is more than 1024"),
        ({"module_count": 1}, "read_modules", "module_count: 1 with a table at 0x0"),
        ({"modules": BASE}, "read_modules", "module_count: 0 with a table at 0x10000"),
        ({"module_count": 9, "modules": BASE}, "read_modules", "module: 288 bytes at 0x10000 cannot be read"),
        ({"memmap_count": 4097, "memmap": 8}, "read_memory_map", "memmap_count: 4097 is more than 4096"),
        (
            {"memmap_count": 8, "memmap": BASE},
            "read_memory_map",
            "memmap: 192 bytes at 0x10000 cannot be read",
        ),
        ({"cmdline": 1}, "read_cmdline", "cmdline: 255 bytes at 0x1 cannot be read"),
    ],
)
def test_a_wrong_pointer_is_named(changes: dict[str, int], method: str, message: str) -> None:
    memory = Memory(record(**changes))
    found: Any = Handover.parse(memory.read, BASE)
    with pytest.raises(ValueError, match=f"^{message}$"):
        getattr(found, method)(memory.read)


@pytest.mark.parametrize("offset", [0, 1, 255, 4095])
def test_a_string_may_end_at_the_last_mapped_byte(offset: int) -> None:
    """As when it stands at the end of a page and the next is not mapped."""
    data = bytes(offset) + b"x" * (4096 - 1 - offset) + b"\0"
    assert read_string(Memory(data).read, BASE + offset, "s") == b"x" * (4095 - offset)


@pytest.mark.parametrize("length", [8191, 8192])
def test_a_string_has_a_greatest_length(length: int) -> None:
    memory = Memory(b"x" * length + b"\0" + b"y" * 100_000)
    if length < handover.MAX_CMDLINE:
        assert read_string(memory.read, BASE, "s") == b"x" * length
    else:
        with pytest.raises(ValueError, match=r"^s: no NUL within 8192 bytes at 0x10000$"):
            read_string(memory.read, BASE, "s")
    assert memory.asked <= handover.MAX_CMDLINE


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.dictionaries(st.integers(0, 41), st.integers(0, 0xFFFFFFFF), max_size=6))
def test_no_bytes_whatever_make_it_do_more_than_refuse(tail: bytes, words: dict[int, int]) -> None:
    data = bytearray(record(tail))
    for index, value in words.items():
        struct.pack_into("<I", data, index * 4, value)
    struct.pack_into("<I", data, 12, 0)
    size = min(struct.unpack_from("<I", data, 8)[0], len(data)) & ~3
    total = sum(struct.unpack(f"<{size // 4}I", data[:size]))
    struct.pack_into("<I", data, 12, -total & 0xFFFFFFFF)
    memory = Memory(bytes(data))
    try:
        found = Handover.parse(memory.read, BASE)
        found.read_cmdline(memory.read)
        found.read_modules(memory.read)
        found.read_memory_map(memory.read)
    except ValueError:
        pass  # refused: all that it may do besides
    assert memory.asked <= 300_000


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (boot_type_name, 1, "pvh"),
        (boot_type_name, 2, "xen-pv"),
        (boot_type_name, 0, "0x0"),
        (boot_type_name, 0x10002, "0x10002"),
        (hypervisor_type_name, 0, "none"),
        (hypervisor_type_name, 4, "hyper-v"),
        (hypervisor_type_name, 0xFFFF, "unknown"),
        (hypervisor_type_name, 99, "0x63"),
    ],
)
def test_types_have_names(name: Any, value: int, expected: str) -> None:
    assert name(value) == expected
