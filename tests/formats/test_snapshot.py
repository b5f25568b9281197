"""A snapshot is what a file held, whatever becomes of the file, and nobody can change it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode, InputError
from bootbuild.formats.payload import open_snapshot
from bootbuild.formats.whole import whole_files
from bootbuild.model.content import (
    LARGEST,
    Content,
    CutShort,
    FileContent,
    MemoryContent,
    SealedContent,
    chunks,
    snapshot,
)

DATA = random.Random(1).randbytes(300_000)
WAYS: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, 10),
    "written over": lambda path: path.write_bytes(bytes(300_000)),
    "grown": lambda path: path.write_bytes(DATA * 2),
    "gone": lambda path: path.unlink(),
}


def whole(content: Content) -> bytes:
    return content.read(0, content.size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.mark.parametrize("memory", ["sealed", "own"])
@pytest.mark.parametrize("way", WAYS)
def test_it_stays_what_it_was(way: str, memory: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if memory == "own":  # as on a system without memfd_create(2)
        monkeypatch.delattr(os, "memfd_create")
    content = open_snapshot(path)
    assert isinstance(content, SealedContent if memory == "sealed" else MemoryContent)
    WAYS[way](path)
    assert (content.size, whole(content)) == (len(DATA), DATA)


def test_nothing_can_write_or_cut_it(path: Path) -> None:
    content = snapshot(FileContent(path))
    assert isinstance(content, SealedContent)
    for change in (
        lambda fd: os.pwrite(fd, b"x", 0),
        lambda fd: os.ftruncate(fd, 1),
        lambda fd: os.ftruncate(fd, 1 << 20),
    ):
        with pytest.raises(PermissionError):
            change(content.fileno())
    assert whole(content) == DATA


def test_a_file_of_nothing_has_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert whole(open_snapshot(tmp_path / "empty")) == b""


def test_holes_take_no_memory(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LARGEST - 1)
        file.write(b"x")
    content = open_snapshot(path)
    assert isinstance(content, SealedContent)
    assert content.size == LARGEST
    assert content.read(0, len(DATA)) == DATA and content.read(LARGEST - 3, 3) == b"\0\0x"
    assert os.fstat(content.fileno()).st_blocks * 512 < 1 << 20


def test_a_larger_file_is_read_where_it_is(path: Path) -> None:
    os.truncate(path, LARGEST + 1)
    assert type(open_snapshot(path)) is FileContent


def test_a_file_that_is_cut_short_while_it_is_read_is_said(path: Path) -> None:
    content = FileContent(path)
    os.truncate(path, 100_000)
    assert content.read(99_990, 10) == DATA[99_990:100_000], "what is still there"
    for reading in (
        lambda: content.read(99_990, 11),
        lambda: content.read(200_000, 1),
        lambda: content.read_into(99_990, memoryview(bytearray(11))),
        lambda: list(chunks(content)),
        lambda: snapshot(content),
    ):
        with pytest.raises(CutShort, match=str(path)):
            reading()
    with (
        pytest.raises(InputError, match=r"became shorter while it was read \(BB-E031\)") as caught,
        whole_files(),
    ):
        content.read(0, 300_000)
    assert caught.value.exit_code == ExitCode.INPUT
    assert content.read(300_000, 10) == b"", "behind its end there never was anything"
