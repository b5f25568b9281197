"""Bytes of a file in guest memory: there to stay when they are sealed, and copied when they are not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.machine.block import PAGE
from bootbuild.machine.memory import Memory
from bootbuild.model.content import Content, CutShort, FileContent, snapshot
from bootbuild.model.machine import Load, Region, RegionKind
from bootbuild.model.span import Span

SIZE = 1 << 20
DATA = bytes(range(1, 251)) * (SIZE // 250 + 1)
RAM = (Region(Span(0, 4 * SIZE), RegionKind.RAM),)


@pytest.mark.parametrize("at", [SIZE, SIZE + 5], ids=["whole pages", "across pages"])
@pytest.mark.parametrize(
    "opened", [FileContent, lambda path: snapshot(FileContent(path))], ids=["file", "sealed"]
)
def test_a_file_that_is_cut_short_takes_nothing_from_the_guest(
    opened: Callable[[Path], Content], at: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA[:SIZE])
    memory = Memory(RAM, [Load(at, opened(path), 0, SIZE, SIZE + PAGE)], 7)
    os.truncate(path, 0)
    assert memory.read(at, SIZE + PAGE) == DATA[:SIZE] + bytes(PAGE)
    memory.write(at, b"own")
    assert memory.read(at, 4) == b"own" + DATA[3:4]
    memory.close()


def test_a_guest_does_not_write_into_what_others_boot_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA[:SIZE])
    content = snapshot(FileContent(tmp_path / "file"))
    memories = [Memory(RAM, [Load(SIZE, content, 0, SIZE, SIZE)], 7) for _ in range(2)]
    memories[0].write(SIZE, bytes(SIZE))
    assert memories[1].read(SIZE, SIZE) == content.read(0, SIZE) == DATA[:SIZE]
    for memory in memories:
        memory.close()


def test_a_file_that_was_cut_short_before_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA[:SIZE])
    content = FileContent(tmp_path / "file")
    os.truncate(tmp_path / "file", PAGE)
    with pytest.raises(CutShort):
        Memory(RAM, [Load(SIZE, content, 0, SIZE, SIZE)], 7)
