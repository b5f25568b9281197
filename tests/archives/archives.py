"""Building wheels and sdists from folders, with the backend that is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

DROPPINGS = shutil.ignore_patterns(
    "__pycache__", ".git", ".venv", "build", "dist", "out", ".*_cache", "*.egg-info", ".hypothesis"
)


def build(source: Path, into: Path, *kinds: str, umask: int = 0o022) -> None:
    """`python -m build`, without isolation: no index is asked."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", into, source],
        check=True,
        capture_output=True,
        text=True,
        umask=umask,
        env={name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"},
    )


def build_wheel(source: Path, into: Path) -> Path:
    """The wheel of a copy of `source`, so that nothing is written there and an editor may go on."""
    copy = Path(shutil.copytree(source, into / "source", ignore=DROPPINGS))
    build(copy, into / "dist", "--wheel")
    (wheel,) = (into / "dist").glob("*.whl")
    return wheel
