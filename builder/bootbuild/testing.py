"""pytest fixtures for authors of plugins. Loaded by pytest's entry point, so nothing needs importing.

`boots("recipe.toml")` builds and boots; `refuses("bad.elf", "BB-U002")` expects an image to break exactly
that rule; `same_bytes("recipe.toml")` builds twice in different surroundings. `Boots`, `Refuses` and
`SameBytes` are their types, for annotations. Each uses the plugins that are installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from bootbuild.host import Host
    from bootbuild.model.record import BuildRecord
    from bootbuild.model.verdict import ProfileVerdict

#: What must not change a build: environment, umask, and the folder it runs in are varied together.
_SURROUNDINGS = (
    ({"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"}, 0o022),
    ({"PYTHONHASHSEED": "4242", "TZ": "Pacific/Chatham", "LC_ALL": "C.UTF-8"}, 0o077),
)


class Boots(Protocol):
    """Build a recipe into a temporary folder; every image must boot in every one of its profiles.

    As on the command line, a profile that the recipe does not name may refuse the file.
    """

    def __call__(self, recipe: str | os.PathLike[str]) -> BuildRecord:
        """The record of the build. Fails the test with the findings, or with what could not be built."""


class Refuses(Protocol):
    """Boot an image; the rules that it breaks, in all profiles together, must be exactly the one named.

    Profiles that were not named and refuse the file do not count, if another takes it.
    """

    def __call__(
        self,
        image: str | os.PathLike[str],
        finding: str,
        *,
        profile: str = "",
        until: str | None = None,
        width: int | None = None,
        guest: str | None = None,
        cmdline: bytes = b"",
        modules: Sequence[tuple[Path, bytes]] = (),
    ) -> tuple[ProfileVerdict, ...]:
        """The verdicts; none where the file was refused as an input.

        `profile` is a profile or a target; without it, all profiles of the targets that the image's own
        record names. `until`, `width`, `guest` and `cmdline` are those of `bootbuild boot`; `modules` are
        files, each with a command line of its own or b"". Fails the test with what was found.
        """


class SameBytes(Protocol):
    """Build a recipe twice, with another folder, umask, time zone, locale and hash seed."""

    def __call__(self, recipe: str | os.PathLike[str]) -> tuple[Path, ...]:
        """The files of the first build. Fails the test unless both builds made the same ones, to the byte."""


@pytest.fixture
def boots(tmp_path: Path) -> Boots:
    """See `Boots`."""

    def run(recipe: str | os.PathLike[str]) -> BuildRecord:
        from bootbuild.errors import BootbuildError
        from bootbuild.host import Host
        from bootbuild.model.verdict import Outcome
        from bootbuild.pipeline import build
        from bootbuild.recipe.overrides import Overrides
        from bootbuild.recipe.read import read

        try:
            host = Host.discover()
            record = build(read(Path(recipe), host, Overrides(output=str(tmp_path))), host)
        except BootbuildError as error:
            pytest.fail(f"cannot be built:\n{error}", pytrace=False)
        failed = [image for image in record.images if image.outcome is not Outcome.BOOTED]
        if failed:
            pytest.fail("\n".join(_told(image.verdicts) for image in failed), pytrace=False)
        return record

    return run


@pytest.fixture
def refuses() -> Refuses:
    """See `Refuses`."""

    def run(
        image: str | os.PathLike[str],
        finding: str,
        *,
        profile: str = "",
        until: str | None = None,
        width: int | None = None,
        guest: str | None = None,
        cmdline: bytes = b"",
        modules: Sequence[tuple[Path, bytes]] = (),
    ) -> tuple[ProfileVerdict, ...]:
        from bootbuild.errors import BootbuildError, InputError
        from bootbuild.host import Host
        from bootbuild.model.request import BootRequest
        from bootbuild.model.verdict import Outcome
        from bootbuild.pipeline import boot

        verdicts: tuple[ProfileVerdict, ...] = ()
        try:
            host = Host.discover()
            names = (profile,) if profile else _claimed(Path(image), host)
            request = BootRequest(
                Path(image),
                names,
                until=until,
                width=width,
                guest=guest,
                cmdline=cmdline,
                modules=tuple(modules),
            )
            verdicts = boot(request, host)
            tried = [verdict for verdict in verdicts if verdict.outcome is not Outcome.REFUSED]
            broken = {found.rule for verdict in tried for found in verdict.findings}
            told = _told(verdicts)
        except InputError as error:
            broken, told = {problem.rule.id for problem in error.problems}, str(error)
        except BootbuildError as error:
            pytest.fail(f"cannot be booted:\n{error}", pytrace=False)
        if broken != {finding}:
            pytest.fail(f"{finding} alone was to be found, but\n{told}", pytrace=False)
        return verdicts

    return run


@pytest.fixture
def same_bytes(tmp_path: Path) -> SameBytes:
    """See `SameBytes`."""

    def run(recipe: str | os.PathLike[str]) -> tuple[Path, ...]:
        builds = []
        for number, (environment, umask) in enumerate(_SURROUNDINGS):
            folder = tmp_path / f"build-{number}" / ("deeper" * number or ".")
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                [sys.executable, "-m", "bootbuild", Path(recipe).resolve(), "-o", folder / "out", "-q"],
                cwd=folder,
                umask=umask,
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                pytest.fail(f"cannot be built:\n{done.stdout}{done.stderr}", pytrace=False)
            made = sorted(path for path in (folder / "out").iterdir() if not path.name.startswith("."))
            builds.append({path.name: path for path in made})
        first, second = builds
        if differing := _differences(first, second):
            pytest.fail("\n".join(differing), pytrace=False)
        return tuple(first.values())

    return run


def _claimed(image: Path, host: Host) -> tuple[str, ...]:
    """The targets that the image's own record names; every profile there is, where it has none."""
    from bootbuild.formats.notes import claims
    from bootbuild.formats.payload import open_content, read_payload

    elf, _ = read_payload(open_content(image), str(image))
    return tuple(claim.target for claim in claims(elf)) or host.names("profile")


def _told(verdicts: Iterable[ProfileVerdict]) -> str:
    """Each profile's outcome, and what was found there."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.name}: {verdict.outcome.value}")
        lines += [f"  {finding.message} ({finding.rule})" for finding in verdict.findings]
        lines += [f"    {line}" for finding in verdict.findings for line in finding.lines]
    return "\n".join(lines)


def _differences(first: dict[str, Path], second: dict[str, Path]) -> list[str]:
    """A line for each file that is in one build only, or not the same in both."""
    found = [f"{name} was made by one of the builds only" for name in sorted(first.keys() ^ second.keys())]
    for name in first.keys() & second.keys():
        ours, theirs = first[name].read_bytes(), second[name].read_bytes()
        if ours != theirs:
            pairs = enumerate(zip(ours, theirs, strict=False))
            at = next((index for index, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
            found.append(f"{name} differs between the builds, first at offset {at:#x}")
    return sorted(found)
