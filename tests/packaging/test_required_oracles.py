"""What CI relies on: with BOOTBUILD_REQUIRE_ORACLES a test that was not run is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BODIES = {
    "skip in the test": "def test_it(): pytest.skip('not here')",
    "skip mark": "@pytest.mark.skip(reason='not here')\ndef test_it(): pass",
    "skip in a fixture": "@pytest.fixture\ndef f(): pytest.skip('not here')\ndef test_it(f): pass",
    "skip of the module": "pytest.skip('not here', allow_module_level=True)",
    "xfail": "@pytest.mark.xfail(reason='not here')\ndef test_it(): assert False",
}


def _closing_line(folder: Path, repository: Path, required: str) -> str:
    options = (
        f"-q -p no:cacheprovider -p no:xdist -c {repository}/pyproject.toml --confcutdir {folder}".split()
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=dict(os.environ, BOOTBUILD_REQUIRE_ORACLES=required),
    )
    return f"exit {done.returncode}: {done.stdout}"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_not_run_is_a_failure_only_when_everything_is_required(
    body: str, tmp_path: Path, repository: Path
) -> None:
    (tmp_path / "conftest.py").write_text((repository / "tests/conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    relaxed = _closing_line(tmp_path, repository, "")
    assert relaxed.startswith(("exit 0", "exit 5")), relaxed
    strict = _closing_line(tmp_path, repository, "1")
    assert not strict.startswith("exit 0"), strict
    assert "this was not run: " in strict
    assert "not here" in strict
