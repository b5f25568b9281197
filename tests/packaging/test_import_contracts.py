"""Every import contract of pyproject.toml holds, and is able to break."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLES = ("bootbuild-freebsd", "bootbuild-toymon", "bootbuild-unikernel")
ROOTS = ("builder", "plugins", *(f"plugins/examples/{name}" for name in EXAMPLES))
VIOLATIONS = {
    "model and errors are standard library only": ("bootbuild/errors.py", "import zstandard"),
    "model knows nothing of what is built on it": ("bootbuild/model/span.py", "import bootbuild.formats"),
    "only machine imports unicorn": ("bootbuild/platform/xen.py", "import unicorn"),
    "only the editors in formats import lief": ("bootbuild/formats/elf_read.py", "import lief"),
    "only formats and the stub builder import elftools": ("bootbuild/boot/run.py", "import elftools"),
    "only host and api import pluggy": ("bootbuild/pipeline.py", "import pluggy"),
    "only recipe and report import msgspec": ("bootbuild/errors.py", "import msgspec"),
    "only cli imports click": ("bootbuild/pipeline.py", "import click"),
    "the core never imports a plugin": ("bootbuild/pipeline.py", "import bootbuild_pvh.targets"),
    "plugins never import each other": ("bootbuild_linux/guests.py", "import bootbuild_pvh"),
    "plugins import bootbuild.api, bootbuild.platform and bootbuild.abi only": (
        "bootbuild_pvh/targets.py",
        "import bootbuild.formats.elf_read",
    ),
}


@pytest.fixture(scope="module")
def linter() -> Path:
    found = Path(sys.executable).with_name("lint-imports")
    if not found.exists():
        pytest.skip("import-linter is not installed: pip install 'bootbuild[dev]'")
    return found


def _verdicts(linter: Path, root: Path) -> dict[str, str]:
    """Each contract's name and KEPT or BROKEN."""
    done = subprocess.run(
        [linter, "--no-cache", "--config", "pyproject.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return dict(re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, re.MULTILINE))


def _copy(repository: Path, into: Path) -> Path:
    for name in ("builder", "plugins"):
        shutil.copytree(repository / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", into)
    return into


def test_every_contract_is_broken_here_once(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text())
    names = {contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}
    assert names == set(VIOLATIONS)


def test_the_tree_keeps_them(linter: Path, repository: Path, tmp_path: Path) -> None:
    verdicts = _verdicts(linter, _copy(repository, tmp_path))
    assert verdicts == dict.fromkeys(VIOLATIONS, "KEPT")


def test_each_notices_its_violation(linter: Path, repository: Path, tmp_path: Path) -> None:
    root = _copy(repository, tmp_path)
    for path, line in VIOLATIONS.values():
        (source,) = [*root.glob(f"*/{path}")]
        source.write_text(f"{source.read_text()}\n{line}  # the violation\n")
    assert _verdicts(linter, root) == dict.fromkeys(VIOLATIONS, "BROKEN")


@pytest.mark.parametrize(
    "plugin", ["bootbuild_pvh", "bootbuild_linux", "examples/bootbuild-toymon/bootbuild_toymon"]
)
def test_a_plugin_may_import_what_it_is_given(
    plugin: str, linter: Path, repository: Path, tmp_path: Path
) -> None:
    root = _copy(repository, tmp_path)
    allowed = "import bootbuild.api\nimport bootbuild.platform.xen\nimport bootbuild.abi.hvm_start_info\n"
    (root / "plugins" / plugin / "allowed.py").write_text(f'"""Only what is allowed."""\n{allowed}')
    assert _verdicts(linter, root) == dict.fromkeys(VIOLATIONS, "KEPT")
