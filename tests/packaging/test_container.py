"""The container is made by pip and one script, and that script works where there is nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = ["sh", "packaging/container.sh"]


def _instructions(repository: Path) -> list[tuple[str, str]]:
    text = (repository / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_runs_pip_and_the_script_only(repository: Path) -> None:
    runs = [json.loads(rest) for word, rest in _instructions(repository) if word == "RUN"]
    assert [run[: len(SCRIPT)] == SCRIPT for run in runs].count(True) == 1
    others = [run[:3] for run in runs if run[: len(SCRIPT)] != SCRIPT]
    assert others == [["python3", "-m", "pip"]] * len(others)
    assert (repository / SCRIPT[1]).exists()


def test_what_is_shipped_is_a_last_stage_without_root_or_tools(repository: Path) -> None:
    instructions = _instructions(repository)
    last = max(index for index, (word, _) in enumerate(instructions) if word == "FROM")
    stage = instructions[last:]
    assert [word for word, _ in stage] == ["FROM", "COPY", "USER", "WORKDIR", "ENTRYPOINT"]
    values = dict(stage)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", values["USER"])
    prefix = next(
        json.loads(rest)[-1] for word, rest in instructions if word == "RUN" and "container" in rest
    )
    assert values["COPY"] == f"--from=build {prefix} {prefix}"
    assert json.loads(values["ENTRYPOINT"]) == [f"{prefix}/bin/bootbuild"]
    # A venv's interpreter is the one it was made with: both stages start from one image.
    assert len({rest.split()[0] for word, rest in instructions if word == "FROM"}) == 1


@pytest.fixture(scope="module")
def installed(built: Any, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the script with sh and python3 on PATH and nothing else; its prefix, and what it printed."""
    root = tmp_path_factory.mktemp("container")
    (root / "bin").mkdir()
    (root / "bin/sh").symlink_to("/bin/sh")
    # Not a symlink: a venv that is made by one made in a venv would not find its own prefix.
    (root / "bin/python3").write_text(f'#!/bin/sh\nexec {sys.base_prefix}/bin/python3 "$@"\n')
    (root / "bin/python3").chmod(0o755)
    home = root / "home"
    home.mkdir(mode=0o555)
    kept = ("PIP_", "SSL_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    done = subprocess.run(
        ["/bin/sh", SCRIPT[1], built.wheel.parent, "constraints.txt", root / "prefix"],
        cwd=repository,
        env={**environment, "PATH": str(root / "bin"), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(home.iterdir()), "nothing may be written to HOME"
    return root / "prefix", done.stdout


def test_it_installs_without_a_compiler_and_boots_the_hello_kernel(installed: tuple[Path, str]) -> None:
    _, printed = installed
    assert "BOOTED" in printed


def test_the_installation_brings_no_test_tools(installed: tuple[Path, str]) -> None:
    prefix, _ = installed
    names = {path.name.partition("-")[0] for path in prefix.glob("lib/python3*/site-packages/*.dist-info")}
    assert names.isdisjoint({"pytest", "hypothesis", "mypy", "ruff", "hatchling"})
