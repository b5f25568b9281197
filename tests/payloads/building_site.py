"""A folder in which builds run as processes of their own, which tests kill, starve and let meet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("bootbuild")
# root may read and write anywhere; without those capabilities it is held to modes like anybody.
_CAPABILITIES = "-dac_override,-dac_read_search"
_SETPRIV = ("setpriv", "--inh-caps", _CAPABILITIES, "--bounding-set", _CAPABILITIES)
HELD_TO_MODES = _SETPRIV if os.geteuid() == 0 else ()  #: begins a command that is to be


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Site:
    """A folder with a recipe and its inputs; its images go to `out`."""

    folder: Path
    recipe: str  #: file name
    image: str  #: file name
    inputs: tuple[str, ...]  #: file names

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def command(self, *more: str | Path) -> list[str | Path]:
        return [PROGRAM, self.recipe, "-q", *more]

    def start(self, *more: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*more),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*more), cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )

    def state(self) -> dict[str, str]:
        """Digest of every input."""
        return {name: digest(self.folder / name) for name in (self.recipe, *self.inputs)}

    def left(self) -> list[str]:
        """What lies in the folder of images."""
        return sorted(path.name for path in self.out.iterdir()) if self.out.exists() else []


def refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    """It ended with exit code 9 and one line, which is `bootbuild: error: …` with `said` in it."""
    assert (done.returncode, done.stdout) == (9, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bootbuild: error: out")
    assert said in line
