"""The hello payloads: what they promise to be, and that they are what their sources say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootbuild.stubs.sources import include_directory

VIRTUAL = {64: 0xFFFFFFFF80100000, 32: 0x100000}


@pytest.mark.parametrize("width", [64, 32])
def test_they_are_what_loaders_want(width: int, hello: Callable[[int], Path]) -> None:
    from elftools.elf.elffile import ELFFile

    with hello(width).open("rb") as file:
        elf: Any = ELFFile(file)
        assert (elf.elfclass, elf["e_type"], elf["e_machine"]) == (64, "ET_EXEC", "EM_X86_64")
        assert elf["e_entry"] == 0x100000
        segments = [segment.header for segment in elf.iter_segments()]
        assert [segment["p_type"] for segment in segments] == ["PT_LOAD", "PT_LOAD"], "no notes"
        text, data = segments
        assert (text["p_flags"], data["p_flags"]) == (5, 6)
        assert (text["p_vaddr"], text["p_paddr"]) == (VIRTUAL[width], 0x100000)
        assert data["p_vaddr"] - data["p_paddr"] == text["p_vaddr"] - text["p_paddr"]
        assert data["p_filesz"] < data["p_memsz"], "there is a .bss to be cleared"
        (startup,) = elf.get_section_by_name(".symtab").get_symbol_by_name(f"startup_{width}")
        assert startup["st_value"] == VIRTUAL[width]


def test_the_same_toolchain_makes_the_shipped_bytes(
    gcc: Path, make_program: Path, hello: Callable[[int], Path], tmp_path: Path
) -> None:
    shipped = hello(64).parent
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("Makefile", "hello.c", "hello.ld", "start.S"):
        shutil.copy(shipped / name, folder)
    output = tmp_path / "output"
    output.mkdir()
    command = [str(make_program), "-s", "-C", str(folder), f"OUT={output}", f"INCLUDE={include_directory()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if (output / "TOOLCHAIN").read_text() != (shipped / "TOOLCHAIN").read_text():
        return  # another compiler makes other bytes; the boots judge those
    for width in (64, 32):
        assert (output / f"hello{width}.elf").read_bytes() == hello(width).read_bytes(), (
            "run make in its folder"
        )
