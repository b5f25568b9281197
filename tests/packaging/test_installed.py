"""What these tests import is the installed wheel, and all that its metadata offers is there."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path, PurePath

import pytest

import bootbuild

COPIED = PurePath("bootbuild/guests/plugin")  #: the example that `bootbuild new plugin` copies
HEAVY = ("lief", "unicorn", "msgspec", "elftools")


@pytest.mark.skipif("BOOTBUILD_INSTALLED" not in os.environ, reason="run by `make test` only")
def test_the_source_roots_are_not_importable(repository: Path) -> None:
    assert not Path(bootbuild.__file__).is_relative_to(repository / "builder")
    roots = {str(repository / "builder"), str(repository / "plugins")}
    assert roots.isdisjoint(str(Path(entry).resolve()) for entry in sys.path)


@pytest.mark.skipif("BOOTBUILD_INSTALLED" not in os.environ, reason="run by `make test` only")
def test_what_is_installed_is_what_lies_in_the_source_roots(repository: Path) -> None:
    """No stale file of an earlier install, none missing."""
    site = Path(bootbuild.__file__).parents[1]
    files = distribution("bootbuild").files or []
    sources = [path for path in files if path.suffix == ".py" and path.parts[0].startswith("bootbuild")]
    assert sources
    for path in sources:
        roots = (repository / "builder", repository / "plugins")
        found = [root / path for root in roots] if COPIED not in path.parents else [_copied(repository, path)]
        (source,) = [candidate for candidate in found if candidate.exists()]
        assert (site / path).read_bytes() == source.read_bytes(), path


def _copied(repository: Path, path: PurePath) -> Path:
    return repository / "plugins/examples/bootbuild-unikernel" / path.relative_to(COPIED)


@pytest.mark.parametrize("group", ["bootbuild1", "console_scripts", "pytest11"])
def test_every_entry_point_loads(group: str) -> None:
    ours = [entry for entry in entry_points(group=group) if entry.dist and entry.dist.name == "bootbuild"]
    assert ours
    for entry in ours:
        assert entry.load() is not None, entry


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom bootbuild.cli import main\n"
        "sys.argv = ['bootbuild', '--help']\n"
        "try:\n    code = main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        f"print('code', code or 0, [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "code 0 []"


def test_importing_the_package_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport bootbuild.model, bootbuild.errors\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['bootbuild']"
