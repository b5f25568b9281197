"""`bootbuild new hello DIR`: a folder to start from, and nothing overwritten."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]
FILES = ["hello.toml", "hello32.elf", "hello32.toml", "hello64.elf", "module.txt"]


@pytest.mark.parametrize("folder", ["absent", "one/in/another", "empty", "."])
def test_what_it_makes_builds_and_boots(bootbuild: Bootbuild, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    if folder == ".":
        (tmp_path / "empty").rmdir()
    done = bootbuild("new", "hello", folder)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.splitlines() == [str(Path(folder, name)) for name in FILES]
    assert sorted(path.name for path in (tmp_path / folder).iterdir()) == FILES
    built = bootbuild(f"{folder}/hello.toml", f"{folder}/hello32.toml")
    assert built.returncode == ExitCode.OK, built.stdout + built.stderr
    table, _, held_to = built.stdout.partition("\n\n")
    assert {line.split()[0] for line in table.splitlines()[1:]} == {"BOOTED"}
    assert {line.split()[0] for line in held_to.splitlines()} == {"oracle:", "source:"}


def test_a_folder_that_is_not_empty_is_left_alone(bootbuild: Bootbuild, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "hello.toml").write_text("my own\n")
    done = bootbuild("new", "hello", "mine")
    assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
    assert done.stderr.startswith("bootbuild: error: mine: the folder is not empty (BB-R026); ")
    assert [path.name for path in mine.iterdir()] == ["hello.toml"]
    assert (mine / "hello.toml").read_text() == "my own\n"


def test_a_file_in_the_way_is_9(bootbuild: Bootbuild, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below"):
        done = bootbuild("new", "hello", folder)
        assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
        assert "(BB-R026)" in done.stderr and len(done.stderr.splitlines()) == 1


def test_another_kind_is_a_usage_error(bootbuild: Bootbuild) -> None:
    done = bootbuild("new", "goodbye", "x")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "'goodbye' is not 'hello'" in done.stderr
