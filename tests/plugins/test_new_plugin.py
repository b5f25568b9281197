"""`bootbuild new plugin DIR` makes a distribution whose own tests pass once it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode

NAME, PACKAGE = "my-os", "bootbuild_my_os"
FILES = [
    "LICENSE",
    "README.md",
    f"{PACKAGE}/__init__.py",
    f"{PACKAGE}/guest.py",
    f"{PACKAGE}/stubs/my_os_back.S",
    f"{PACKAGE}/stubs/my_os_back.bin",
    f"{PACKAGE}/stubs/my_os_back.json",
    f"{PACKAGE}/stubs/stubs.toml",
    "kernel/Makefile",
    "kernel/kernel.bin",
    "kernel/kernel.c",
    "kernel/kernel.ld",
    "pyproject.toml",
    "recipes/my-os.toml",
    "tests/test_my_os.py",
]


def new(folder: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootbuild", "new", "plugin", folder]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution my-os, as it was made."""
    folder = tmp_path_factory.mktemp("new")
    done = new(f"bootbuild-{NAME}", folder)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.splitlines() == [f"bootbuild-{NAME}/{file}" for file in FILES]
    return folder / f"bootbuild-{NAME}"


@pytest.fixture(scope="module")
def installed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """python of a venv with my-os in editable mode. All else is this suite's own: no index is asked."""
    prefix = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    (site,) = prefix.glob("lib/python3*/site-packages")
    (site / "suite.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = prefix / "bin/python"
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-build-isolation"]
    run([python, "-m", "pip", "install", *options, "-e", ".[test]"], made)
    return python


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_of_the_examples_name_is_left(made: Path) -> None:
    files = {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    assert not [name for name, data in files.items() if b"unikernel" in (name.encode() + data).lower()]


def test_its_own_tests_pass(installed: Path, made: Path) -> None:
    said = run([installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"], made)
    assert re.search(r"^\d+ passed in", said, re.MULTILINE), said


def test_its_names_are_its_own(installed: Path, made: Path) -> None:
    command: list[str | Path] = [installed, "-m", "bootbuild"]
    assert re.search(rf"^guest +{NAME} +bootbuild-{NAME} ", run([*command, "plugins"], made), re.MULTILINE)
    assert run([*command, "explain", "MY-OS-002"], made).startswith("MY-OS-002: another command line")
    assert "class MyOs:" in (made / PACKAGE / "guest.py").read_text()


@pytest.mark.usefixtures("gcc")
def test_its_stub_is_rebuilt_where_it_is(installed: Path, made: Path) -> None:
    folder = made / PACKAGE / "stubs"
    shipped = (folder / "my_os_back.bin").read_bytes()
    run([installed, "-m", "bootbuild.stubs", "build", folder], made)
    assert (folder / "my_os_back.bin").read_bytes() == shipped


def test_what_is_installed_is_not_made_again(installed: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [installed, "-m", "bootbuild", "new", "plugin", NAME]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert f"a guest '{NAME}' is installed already" in done.stderr


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("My-os", "'My-os' is none"),
        ("my_os", "'my_os' is none"),
        ("9front", "'9front' is none"),
        ("my--os", "'my--os' is none"),
        ("bootbuild-", "'' is none"),
        ("x" * 33, "at most 32"),
        ("bb-os", "would begin with BB-"),
        ("linux", "a guest 'linux' is installed already"),
        ("bootbuild-loaders", "a package bootbuild_loaders is installed already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, folder: str, said: str) -> None:
    done = new(folder, tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "Invalid value for DIRECTORY: " in done.stderr and said in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_current_folder_names_it_too(tmp_path: Path) -> None:
    folder = tmp_path / "myos"
    folder.mkdir()
    assert new(".", folder).returncode == ExitCode.OK
    assert 'name = "bootbuild-myos"' in (folder / "pyproject.toml").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "myos"
    mine.mkdir()
    (mine / "README.md").write_text("my own\n")
    done = new("myos", tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.OUTPUT, "")
    assert "myos: the folder is not empty (BB-R026)" in done.stderr
    assert [path.read_text() for path in mine.iterdir()] == ["my own\n"]
