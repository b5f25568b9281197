"""A payload is opened whatever it is packed in; what is no kernel is refused without waiting for it."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import InputError
from bootbuild.formats.payload import open_content, open_payload
from bootbuild.formats.rules import RULES


def refused(path: Path) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        open_payload(path)
    (problem,) = caught.value.problems
    assert problem.where.startswith(str(path))
    return problem.rule.id, problem.message


def test_an_elf_kernel_is_opened(tmp_path: Path, elf: Any) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(bytes(elf))
    opened = open_payload(path)
    image, kind, digest = opened.elf, opened.format, opened.digest
    assert (image.name, image.bits, kind) == (str(path), elf.bits, "elf")
    assert digest == hashlib.sha256(bytes(elf)).hexdigest()


def test_a_bzimage_is_opened_and_named_by_its_compression(tmp_path: Path, elf64: Any) -> None:
    packed = gzip.compress(bytes(elf64))
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<II", head, 0x248, 0, len(packed))
    struct.pack_into("<I", head, 0x260, 0x10000)  # init_size
    path = tmp_path / "vmlinuz"
    path.write_bytes(bytes(head) + packed)
    opened = open_payload(path)
    image, kind, digest = opened.elf, opened.format, opened.digest
    assert (image.bits, kind) == (64, "bzimage (gzip)")
    assert image.content.read(0, image.content.size) == bytes(elf64)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "data", [b"", b"MZ", b"#!/bin/sh\n", bytes(4096)], ids=["empty", "pe", "sh", "zeros"]
)
def test_what_is_no_kernel_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert refused(path)[0] == "BB-E030"


@pytest.mark.parametrize(
    ("start", "said"),
    [(b"MZ\x90\0", "as it was built; other programs"), (b"\x1f\x8b\x08", "unpack it first"), (b"text", "")],
)
def test_what_tools_make_of_a_kernel_is_told(tmp_path: Path, start: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(start.ljust(0x400, b"\0"))
    with pytest.raises(InputError) as caught:
        open_payload(tmp_path / "file")
    (problem,) = caught.value.problems
    assert said in problem.remedy
    assert bool(problem.remedy) == bool(said)


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent") == ("BB-E031", "no such file or directory")
    assert refused(tmp_path) == ("BB-E031", "a directory")
    assert refused(Path("/dev/zero")) == ("BB-E031", "not a regular file")
    assert refused(tmp_path / "a\0b")[0] == "BB-E031"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(loop)[0] == "BB-E031"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refused(pipe) == ("BB-E031", "not a regular file")
    locked = tmp_path / "locked"
    locked.touch(mode=0)
    if os.geteuid():
        assert refused(locked) == ("BB-E031", "permission denied")


def test_a_content_can_be_opened_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"070701")
    assert open_content(path).read(0, 9) == b"070701"


def test_rule_ids_are_unique_and_every_rule_says_how_to_get_on() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.title and rule.explanation and rule.remedy for rule in RULES)
