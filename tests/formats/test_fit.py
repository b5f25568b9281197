"""What a recipe may say of a payload beside its file, and every way in which that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootbuild.formats.elf_fresh import Part, fresh, rewrap
from bootbuild.formats.elf_read import read_elf
from bootbuild.formats.raw import read_raw
from bootbuild.model.content import MemoryContent
from bootbuild.model.payload import PT_LOAD, Segment
from pies import MIB, assert_refused, opened


def test_a_raw_kernel_is_one_segment_at_its_address(tmp_path: Path) -> None:
    kernel = opened(tmp_path, b"code and data", load=MIB, entry=MIB + 5, bss=100, width=32)
    (load,) = kernel.elf.loads
    assert (kernel.format, kernel.elf.bits, kernel.elf.entry) == ("raw", 32, MIB + 5)
    assert (load.paddr, load.vaddr, load.filesz, load.memsz, load.flags) == (MIB, MIB, 13, 113, 7)
    assert kernel.elf.content.read(load.offset, 13) == b"code and data"


@pytest.mark.parametrize(
    ("align", "kept"),
    [(0, 0), (8, 8), (0x4000, 0x4000), (2 * MIB, 2 * MIB), (1 << 30, 2 * MIB), (0x3000, 0x1000)],
)
def test_the_other_class_keeps_p_align_and_offsets_agree_with_it(
    align: int, kept: int, tmp_path: Path, elf: Any
) -> None:
    if elf.bits == 64:
        for header in elf.phdrs[:2]:
            header["p_vaddr"] = header["p_paddr"]
        elf.ehdr["e_entry"] = elf.phdrs[0]["p_vaddr"]
    elf.phdrs[1] |= {"p_filesz": 0, "p_align": align}
    elf.phdrs[0]["p_align"] = align
    kernel = opened(tmp_path, bytes(elf), elf_class=96 - elf.bits).elf
    code, data = kernel.loads
    assert (code.align, data.align) == (kept, kept)
    assert all((s.offset - s.vaddr) % max(kept, 0x1000) == 0 for s in (code, data))
    assert kernel.content.read(code.offset, code.filesz) == bytes(range(0x80))
    assert kernel.content.size <= max(kept, 0x1000) + 0x2000


def test_a_raw_kernel_of_4_gib_does_not_fit_elf32(tmp_path: Path) -> None:
    class Huge(MemoryContent):
        size = 1 << 32

    assert_refused("BB-E044", "segment at 0x0-0x100000000", lambda: read_raw(Huge(b""), "x", 0, None, 0, 32))
    half = Part(Segment(PT_LOAD, 7, 0, 0, 0, 1 << 31, 1 << 31, 0x1000), Huge(b""), 0)
    assert_refused("BB-E044", "file offset 0x100001000", lambda: fresh(32, 0, [half, half, half], "x"))


REFUSED_RAW: dict[str, tuple[bytes, dict[str, int], str]] = {
    "empty": (b"", {"load": MIB}, "the file is empty"),
    "above 4 GiB": (b"code", {"load": (1 << 32) - 2}, "end above 4 GiB"),
    "zeros above 4 GiB": (b"code", {"load": MIB, "bss": 1 << 32}, "end above 4 GiB"),
    "entry before": (b"code", {"load": MIB, "entry": MIB - 1}, "entry 0xfffff is outside"),
    "entry behind": (b"code", {"load": MIB, "entry": MIB + 4}, "entry 0x100004 is outside"),
}


@pytest.mark.parametrize("name", REFUSED_RAW)
def test_a_raw_kernel_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    data, fit, said = REFUSED_RAW[name]
    assert_refused("BB-E042", said, lambda: opened(tmp_path, data, **fit))


def test_without_load_a_raw_kernel_is_unknown(tmp_path: Path) -> None:
    assert_refused("BB-E030", "begins with", lambda: opened(tmp_path, b"code and data"))


def test_load_is_not_for_a_kernel_linked_at_an_address(tmp_path: Path, elf64: Any) -> None:
    assert_refused("BB-E043", "load: ", lambda: opened(tmp_path, bytes(elf64), load=MIB))


def test_paddr_offset_mends_every_load(tmp_path: Path, elf64: Any) -> None:
    for header in elf64.phdrs:
        header["p_paddr"] = header["p_vaddr"]
    kernel = opened(tmp_path, bytes(elf64), paddr_offset=0xFFFFFFFF80000000)
    assert [s.paddr for s in kernel.elf.loads] == [0x100000, 0x100100]
    assert kernel.changes == ("p_paddr of 2 segments set to p_vaddr - 0xffffffff80000000",)
    assert kernel.elf.symbols["startup_64"] == 0xFFFFFFFF80100000


def test_a_paddr_offset_that_is_wrong_is_refused(tmp_path: Path, elf64: Any) -> None:
    assert_refused(
        "BB-E045",
        "is not below 4 GiB",
        lambda: opened(tmp_path, bytes(elf64), paddr_offset=0xFFFF800000000000),
    )


def test_the_other_class_keeps_what_is_loaded_and_the_notes(tmp_path: Path, elf: Any) -> None:
    other = 96 - elf.bits
    image = read_elf(MemoryContent(bytes(elf)), "vmlinux")
    if elf.bits == 64:  # linked in the upper half
        assert_refused("BB-E044", "does not fit ELF32", lambda: rewrap(image, 32))
        return
    wrapped = rewrap(image, other)
    assert (wrapped.bits, wrapped.machine, wrapped.entry) == (64, 62, image.entry)
    assert [(n.owner, n.type, n.desc) for n in wrapped.notes] == [
        (n.owner, n.type, n.desc) for n in image.notes
    ]
    for old, new in zip(image.loads, wrapped.loads, strict=True):
        same = (old.type, old.flags, old.vaddr, old.paddr, old.filesz, old.memsz)
        assert (new.type, new.flags, new.vaddr, new.paddr, new.filesz, new.memsz) == same
        assert new.type == PT_LOAD
        assert (new.offset - new.vaddr) % new.align == 0
        assert wrapped.content.read(new.offset, new.filesz) == image.content.read(old.offset, old.filesz)
    assert wrapped.symbols == image.symbols
