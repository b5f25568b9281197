"""A clean environment: the wheels of bootbuild and of its example plugins, pytest, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from archives import build_wheel

PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}


@dataclass(frozen=True)
class Environment:
    """A venv, and a folder to run in that holds nothing importable."""

    prefix: Path
    folder: Path

    @property
    def python(self) -> Path:
        return self.prefix / "bin/python"

    @property
    def site(self) -> Path:
        (path,) = self.prefix.glob("lib/python3*/site-packages")
        return path

    def run(
        self, *command: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command by its name in the venv's bin."""
        return subprocess.run(
            [self.prefix / "bin" / command[0], *command[1:]],
            cwd=folder or self.folder,
            env={**PLAIN, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def example(repository: Path) -> Path:
    """The folder of the distribution that has plugins of every kind."""
    return repository / "plugins/examples/bootbuild-toymon"


@pytest.fixture(scope="session")
def wheels(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheel of every example, by the name of its distribution."""
    return {
        folder.name: build_wheel(folder, tmp_path_factory.mktemp("example-wheel"))
        for folder in sorted((repository / "plugins/examples").iterdir())
    }


@pytest.fixture(scope="session")
def environment(
    repository: Path, wheels: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """The venv with all of them, installed as a user would, at the pinned versions."""
    root = tmp_path_factory.mktemp("environment")
    wheel = build_wheel(repository, tmp_path_factory.mktemp("bootbuild-wheel"))
    made = Environment(root / "venv", root / "empty")
    made.folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", made.prefix], check=True, env=PLAIN)
    options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    done = made.run(
        "python", "-m", "pip", "install", *options,
        "--constraint", repository / "constraints.txt", wheel, *(f"{one}[test]" for one in wheels.values()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return made
