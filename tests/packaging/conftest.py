"""The archives as a release would have them, built once from a copy of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from archives import DROPPINGS, build


@dataclass(frozen=True)
class Distributions:
    """One build's archives."""

    wheel: Path
    sdist: Path


def distributions(folder: Path) -> Distributions:
    """The one wheel and the one sdist of a folder."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Distributions(wheel, sdist)


@pytest.fixture(scope="session")
def snapshot(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as it is now: all that is built comes from here, whatever an editor does meanwhile."""
    folder = tmp_path_factory.mktemp("snapshot") / "bootbuild"
    return Path(shutil.copytree(repository, folder, ignore=DROPPINGS))


@pytest.fixture(scope="session")
def built(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Wheel and sdist of the checkout."""
    into = tmp_path_factory.mktemp("built")
    build(snapshot, into, "--wheel", "--sdist")
    return distributions(into)


@pytest.fixture(scope="session")
def built_elsewhere(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The same from a copy: other folder, other times, modes as another umask leaves them."""
    root = tmp_path_factory.mktemp("elsewhere")
    copy = Path(shutil.copytree(snapshot, root / "a longer name"))
    for path in copy.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o077)
            os.utime(path, (1_000_000_000, 1_000_000_000))
    build(copy, root / "dist", "--wheel", "--sdist", umask=0o077)
    return distributions(root / "dist")


@pytest.fixture(scope="session")
def built_from_sdist(built: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist makes."""
    root = tmp_path_factory.mktemp("from-sdist")
    # Not tarfile: its `filter` came with 3.11.4, and from 3.12 on it warns without.
    subprocess.run(["tar", "-xzf", built.sdist, "-C", root], check=True)
    (source,) = root.iterdir()
    build(source, root / "dist", "--wheel")
    (wheel,) = (root / "dist").glob("*.whl")
    return wheel
