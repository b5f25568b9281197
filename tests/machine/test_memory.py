"""What was loaded is compared with what is there, without reading the pages that nobody has written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootbuild.machine.memory import Memory
from bootbuild.model.content import Content, FileContent, MemoryContent
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
    return FileContent(tmp_path / "file")


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
