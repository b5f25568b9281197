"""The installed `bootbuild` as a process, and the hello kernels that it made and built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("bootbuild")

Done = subprocess.CompletedProcess[str]
Bootbuild = Callable[..., Done]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would change the output; `more` on top."""
    unwanted = ("NO_COLOR", "BOOTBUILD_DEBUG", "COLUMNS")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | more


@pytest.fixture(scope="session")
def program() -> Path:
    """The console script that pip made."""
    assert PROGRAM.exists(), "bootbuild is not installed beside this Python"
    return PROGRAM


@pytest.fixture(scope="session")
def run_in(program: Path) -> Bootbuild:
    """run_in(folder, arguments…, env=…): a finished process, never with a traceback."""

    def run(folder: Path, *arguments: str | Path, env: dict[str, str] | None = None) -> Done:
        done = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=environment(**env or {}),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def bootbuild(run_in: Bootbuild, tmp_path: Path) -> Bootbuild:
    """bootbuild(arguments…, env=…) in a folder of the test's own."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Done:
        return run_in(tmp_path, *arguments, env=env)

    return run


@pytest.fixture(scope="session")
def _built(run_in: Bootbuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hello")
    assert run_in(folder, "new", "hello", ".").returncode == 0
    assert run_in(folder, "hello.toml", "hello32.toml", "-q").returncode == 0
    return folder


@pytest.fixture
def hello(_built: Path, tmp_path: Path) -> Path:
    """The current test's folder, with what `bootbuild new hello .` and a build left there."""
    kept = shutil.ignore_patterns(".bootbuild")  # or nothing would be built again
    shutil.copytree(_built, tmp_path, dirs_exist_ok=True, ignore=kept)
    return tmp_path
