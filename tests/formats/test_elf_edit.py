"""BB-W010: LIEF does not do what it was asked, and no file comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from bootbuild.errors import ExitCode, VerificationError
from bootbuild.formats.elf_edit import NewSegment, add_segments
from bootbuild.formats.elf_read import read_elf
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import PT_LOAD, PT_NULL

PT_INTERP = 3


def segment(kind: int) -> NewSegment:
    """A page of code at 2 MiB."""
    return NewSegment(kind, 5, 0x200000, 0x200000, b"\x90" * 16, 16, 0x1000)


def refused(elf: Any, *new: NewSegment) -> str:
    """What is said of the one problem."""
    image = read_elf(MemoryContent(bytes(elf)), "vmlinux")
    with pytest.raises(VerificationError) as caught:
        add_segments(image, new, 0x100000)
    (problem,) = caught.value.problems
    assert (problem.rule.id, problem.where) == ("BB-W010", "vmlinux")
    assert caught.value.exit_code is ExitCode.INTERNAL
    return problem.message


@pytest.mark.parametrize(("kind", "made"), [(PT_NULL, 0), (PT_INTERP, 2)])
def test_segments_of_which_lief_makes_more_or_fewer(elf: Any, kind: int, made: int) -> None:
    """It makes a PT_LOAD beside each PT_INTERP, and a PT_NULL is none."""
    assert refused(elf, segment(kind)) == f"LIEF made {made} of 1 segments"
    assert refused(elf, segment(PT_LOAD), segment(kind)) == f"LIEF made {made + 1} of 2 segments"


@pytest.mark.parametrize(
    ("name", "result", "said"),
    [
        ("lief.ELF.parse", None, "LIEF does not read the skeleton"),
        ("lief.ELF.Binary.relocate_phdr_table", 0, "LIEF cannot move the program header table"),
        ("lief.ELF.Binary.add", None, "LIEF does not add a segment at 0x200000"),
    ],
)
def test_a_lief_that_returns_nothing(
    elf: Any, monkeypatch: pytest.MonkeyPatch, name: str, result: object, said: str
) -> None:
    """No input of ours makes it do so: another version's failure is played."""
    monkeypatch.setattr(name, lambda *_: result)
    assert refused(elf, segment(PT_LOAD)) == said


def test_what_it_is_asked_in_earnest_it_does(elf: Any) -> None:
    image = read_elf(MemoryContent(bytes(elf)), "vmlinux")
    edit = add_segments(image, [segment(PT_LOAD)], 0x100000)
    assert b"\x90" * 16 in edit.tail
