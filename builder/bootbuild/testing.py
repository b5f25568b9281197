"""pytest fixtures for authors of plugins. Loaded by pytest's entry point, so nothing needs importing.

`boots("recipe.toml")` builds and boots; `refuses("bad.elf", "BB-U002", profile="pvh@qemu")` expects an image
to break exactly that rule; `same_bytes("recipe.toml")` builds twice in different surroundings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from bootbuild.model.record import BuildRecord
    from bootbuild.model.verdict import ProfileVerdict

#: What must not change a build: environment, umask, and the folder it runs in are varied together.
_SURROUNDINGS = (
    ({"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"}, 0o022),
    ({"PYTHONHASHSEED": "4242", "TZ": "Pacific/Chatham", "LC_ALL": "C.UTF-8"}, 0o077),
)


class Refuses(Protocol):
    """Boot an image and expect it to fail by exactly one rule."""

    def __call__(
        self,
        image: str | os.PathLike[str],
        finding: str,
        *,
        profile: str = "",
        until: str | None = None,
        guest: str | None = None,
        cmdline: bytes = b"",
    ) -> ProfileVerdict | None:
        """The verdict, or None when the file was refused before any boot."""


def _complain(verdicts: Iterable[ProfileVerdict]) -> str:
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.name}: {verdict.outcome.value}")
        lines += [f"  {finding.message} ({finding.rule})" for finding in verdict.findings]
    return "\n".join(lines)


@pytest.fixture
def boots(tmp_path: Path) -> Callable[[str | os.PathLike[str]], BuildRecord]:
    """Build a recipe into a temporary folder; every image must boot in every one of its profiles."""

    def run(recipe: str | os.PathLike[str]) -> BuildRecord:
        from bootbuild.host.host import Host
        from bootbuild.model.verdict import Outcome
        from bootbuild.pipeline import build
        from bootbuild.recipe.overrides import Overrides
        from bootbuild.recipe.read import read

        host = Host.discover()
        record = build(read(Path(recipe), host, Overrides(output=str(tmp_path))), host)
        verdicts = [verdict for image in record.images for verdict in image.verdicts]
        assert verdicts, "no profile was booted"
        failed = [verdict for verdict in verdicts if verdict.outcome is not Outcome.BOOTED]
        if failed:
            pytest.fail(_complain(failed), pytrace=False)
        return record

    return run


@pytest.fixture
def refuses() -> Refuses:
    """Boot an image; the rules that it breaks must be exactly the one named."""

    def run(
        image: str | os.PathLike[str],
        finding: str,
        *,
        profile: str = "",
        until: str | None = None,
        guest: str | None = None,
        cmdline: bytes = b"",
    ) -> ProfileVerdict | None:
        from bootbuild.errors import InputError
        from bootbuild.host.host import Host
        from bootbuild.model.request import BootRequest
        from bootbuild.pipeline import boot

        host = Host.discover()
        names = (profile,) if profile else host.names("profile")
        request = BootRequest(Path(image), tuple(names), until=until, guest=guest, cmdline=cmdline)
        try:
            verdicts = boot(request, host)
        except InputError as error:
            broken = {problem.rule.id for problem in error.problems}
            if broken != {finding}:
                raise
            return None
        broken = {f.rule for verdict in verdicts for f in verdict.findings}
        assert broken == {finding}, _complain(verdicts) or "nothing was found"
        return verdicts[0]

    return run


@pytest.fixture
def same_bytes(tmp_path: Path) -> Callable[[str | os.PathLike[str]], tuple[Path, ...]]:
    """Build a recipe twice in different surroundings; the images must be the same to the byte."""

    def run(recipe: str | os.PathLike[str]) -> tuple[Path, ...]:
        folders = []
        for number, (environment, umask) in enumerate(_SURROUNDINGS):
            folder = tmp_path / f"build-{number}" / ("deeper" * number or ".")
            folder.mkdir(parents=True, exist_ok=True)
            command: list[str | Path] = [
                sys.executable,
                "-m",
                "bootbuild",
                Path(recipe).resolve(),
                "-o",
                folder / "out",
                "-q",
            ]
            subprocess.run(
                command,
                check=True,
                cwd=folder,
                umask=umask,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
            )
            folders.append(folder / "out")
        first, second = ({p.name: p for p in folder.iterdir()} for folder in folders)
        assert first, "the build made no file"
        assert first.keys() == second.keys(), "the builds made different files"
        for name, path in first.items():
            assert path.read_bytes() == second[name].read_bytes(), f"{name} differs"
        return tuple(first.values())

    return run
