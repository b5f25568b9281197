"""What was loaded is compared with what is there, without reading the pages that nobody has written to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bootbuild.machine.memory import Memory
from bootbuild.model.content import Content, FileContent, MemoryContent, SealedContent
from bootbuild.model.machine import Load, Region, RegionKind
from bootbuild.model.span import Span

SIZE = 3 << 20
AT = 0x100400  #: neither it nor the end is on a page's boundary


@pytest.fixture(params=["mapped file", "copied file", "memory"])
def content(request: pytest.FixtureRequest, tmp_path: Path) -> Content:
    data = bytes(range(256)) * (SIZE // 256)
    if request.param == "memory":
        return MemoryContent(data)
    (tmp_path / "file").write_bytes(data)
    file = FileContent(tmp_path / "file")
    return SealedContent(file) if request.param == "mapped file" else file


@pytest.fixture
def load(content: Content, request: pytest.FixtureRequest) -> Load:
    mapped = "mapped" in request.node.callspec.params["content"]
    offset = 0x400 if mapped else 0x123  # only what lies alike in file and memory can be mapped
    return Load(AT, content, offset, SIZE - 0x1000, SIZE)


@pytest.fixture(params=[0, 7], ids=["exact", "poisoned"])
def memory(load: Load, request: pytest.FixtureRequest) -> Iterator[Memory]:
    made = Memory([Region(Span(0, 8 << 20), RegionKind.RAM)], [load], request.param)
    yield made
    made.close()


def test_nothing_has_changed_at_first(memory: Memory, load: Load) -> None:
    assert memory.first_change(load) is None


@pytest.mark.parametrize("offset", [0, 1, 0xC00, 0x12345, SIZE // 2, SIZE - 0x1001])
def test_each_changed_byte_is_found(memory: Memory, load: Load, offset: int) -> None:
    at = AT + offset
    (byte,) = memory.read(at, 1)
    memory.write(at, bytes([byte ^ 1]))
    assert memory.first_change(load) == at
    memory.write(at, bytes([byte]))  # a page of our own by now, with the same bytes
    assert memory.first_change(load) is None


def test_what_lies_beside_the_bytes_does_not_count(memory: Memory, load: Load) -> None:
    memory.write(AT - 1, b"\x55")
    memory.write(AT + load.size, b"\x55")
    assert memory.first_change(load) is None


def test_without_the_kernels_help_every_byte_is_compared(
    memory: Memory, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError("no pagemap")))
    assert memory.first_change(load) is None
    memory.write(AT + 0x54321, b"\xff\xfe")
    assert memory.first_change(load) in (AT + 0x54321, AT + 0x54322)


def sealed(path: Path, data: bytes) -> Content:
    path.write_bytes(data)
    return SealedContent(FileContent(path))


def test_pages_of_another_file_are_compared(tmp_path: Path) -> None:
    """They are a file's as well, and so is the garbage where nothing was loaded."""
    size = 1 << 20
    there, other = (sealed(tmp_path / name, name.encode() * (size // 5)) for name in ("there", "other"))
    load = Load(0x200000, there, 0, there.size, there.size)
    memory = Memory([Region(Span(0, 8 << 20), RegionKind.RAM)], [load], 7)
    try:
        assert memory.first_change(load) is None
        assert memory.first_change(replace(load, content=other)) == 0x200000
        assert memory.first_change(replace(load, address=0x201000)) == 0x201000
        assert memory.first_change(replace(load, address=0x600000)) == 0x600000
        assert memory.first_change(replace(load, offset=5, size=size // 2)) is None  # the same bytes
    finally:
        memory.close()


def test_thousands_of_loads_are_not_gone_through_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A domain of Xen's has as many, and all are looked at where its own entry is reached."""
    content = MemoryContent(bytes(8))
    loads = [Load(0x1000 + 16 * number, content, 0, 8, 8) for number in range(5000)]
    memory = Memory([Region(Span(0, 8 << 20), RegionKind.RAM)], loads, 0)
    ends = 0

    def end(span: Span) -> int:
        nonlocal ends
        ends += 1
        return span.start + span.size

    monkeypatch.setattr(Span, "end", property(end))
    try:
        assert [load for load in loads if memory.first_change(load) is not None] == []
        assert ends < 50 * len(loads)
    finally:
        memory.close()


def test_what_lies_behind_a_load_is_compared(tmp_path: Path) -> None:
    content = sealed(tmp_path / "file", b"byte" * (1 << 18))
    half = Load(0x200000, content, 0, content.size // 2, content.size // 2)
    memory = Memory([Region(Span(0, 8 << 20), RegionKind.RAM)], [half], 7)
    try:
        whole = replace(half, size=content.size, memsz=content.size)
        assert memory.first_change(whole) == 0x200000 + half.size
    finally:
        memory.close()


def test_what_a_later_load_has_put_there_is_compared(tmp_path: Path) -> None:
    """As sections of a PE may lie one over the other."""
    size = 1 << 20
    content = sealed(tmp_path / "file", b"".join(number.to_bytes(4, "little") for number in range(size // 2)))
    below = Load(0x200000, content, 0, size, size)
    above = Load(0x280000, content, size, size // 2, size // 2)
    memory = Memory([Region(Span(0, 8 << 20), RegionKind.RAM)], [below, above], 0)
    try:
        assert memory.first_change(above) is None
        assert memory.first_change(replace(below, size=size // 2)) is None
        assert memory.first_change(below) in range(0x280000, 0x280004)
    finally:
        memory.close()
