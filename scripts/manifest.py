"""Regenerate the lists of files that ship: manifest.py FOLDER writes manifest-{wheel,sdist}.txt there.

What is listed is what is in the archives that are built from the checkout, so commit or remove first
whatever lies about in it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path


def wheel_files(archive: Path) -> list[str]:
    """Names in a wheel, sorted, the version replaced by VERSION in that of its metadata folder."""
    version = archive.name.split("-")[1]
    with zipfile.ZipFile(archive) as file:
        return sorted(
            name.replace(f"-{version}.dist-info/", "-VERSION.dist-info/") for name in file.namelist()
        )


def sdist_files(archive: Path) -> list[str]:
    """Names of the regular files in an sdist, sorted, below its one top folder."""
    with tarfile.open(archive) as file:
        return sorted(member.name.partition("/")[2] for member in file if member.isfile())


def build(source: Path, into: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist with the backend that is installed; no index is asked."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", str(into)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, text=True)
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return wheel, sdist


def main(folder: str) -> int:
    """Write both lists and say how long they are."""
    with tempfile.TemporaryDirectory() as temporary:
        wheel, sdist = build(Path(__file__).resolve().parents[1], Path(temporary))
        for kind, names in {"wheel": wheel_files(wheel), "sdist": sdist_files(sdist)}.items():
            path = Path(folder) / f"manifest-{kind}.txt"
            path.write_text("".join(f"{name}\n" for name in names))
            print(f"{path}: {len(names)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
