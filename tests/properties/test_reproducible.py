"""Where and how a build runs changes no byte of an image, and of its record only times and paths."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(sys.executable).with_name("bootbuild")
PLACES = ("seconds", "path", "recipe", "image")  #: keys whose values may differ

JUDGE = """
from bootbuild.api import Finding, hookimpl

class Judge:
    @hookimpl
    def bootbuild_judge(self, verdict):
        return Finding("{name}-001", "{name} saw " + verdict.name)
"""


@dataclass(frozen=True)
class Surroundings:
    """One way to run the same build."""

    name: str
    folder: str = "here"
    umask: int = 0o022
    environment: dict[str, str] = field(default_factory=dict)
    plugins: tuple[str, ...] = ("alpha", "beta")  #: folders of distributions, in the order of sys.path
    modified: int = 1_700_000_000  #: mtime of the inputs, seconds since 1970
    absolute: bool = False  #: whether the recipe is named by its whole path, from another folder


PLAIN = Surroundings("plain", environment={"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"})
OTHERS = (
    Surroundings("folder", folder="there is/a longer one", environment=PLAIN.environment),
    Surroundings("by its whole path", absolute=True, environment=PLAIN.environment),
    Surroundings("umask", umask=0o077, environment=PLAIN.environment),
    Surroundings("time zone", environment=PLAIN.environment | {"TZ": "Pacific/Chatham"}),
    Surroundings("locale", environment=PLAIN.environment | {"LC_ALL": "C.UTF-8", "LANG": "tr_TR.UTF-8"}),
    Surroundings("hash seed", environment=PLAIN.environment | {"PYTHONHASHSEED": "4242"}),
    Surroundings("epoch", environment=PLAIN.environment | {"SOURCE_DATE_EPOCH": "1"}),
    Surroundings("discovery", plugins=("beta", "alpha"), environment=PLAIN.environment),
    Surroundings("times of files", modified=1_000_000_000, environment=PLAIN.environment),
    Surroundings(
        "all of them",
        folder="there",
        umask=0o027,
        environment={"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8"},
        plugins=("beta", "alpha"),
        modified=1,
        absolute=True,
    ),
)


@dataclass(frozen=True)
class Made:
    """What one build left."""

    images: dict[str, str]  #: name → SHA-256
    modes: set[int]
    record: Any  #: of `--json`, without PLACES
    table: list[list[str]]  #: of the report for people, without paths


def without_places(value: Any) -> Any:
    """A JSON value without what may differ."""
    if isinstance(value, dict):
        return {key: without_places(inner) for key, inner in value.items() if key not in PLACES}
    return [without_places(inner) for inner in value] if isinstance(value, list) else value


def distributions(folder: Path) -> None:
    """Two plugins that both add a finding to every boot, each in a folder of its own for sys.path."""
    for name in ("alpha", "beta"):
        info = folder / name / f"{name}_judge-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-judge\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[bootbuild1]\nhook.{name} = {name}_judge:Judge\n")
        (folder / name / f"{name}_judge.py").write_text(JUDGE.format(name=name.upper()))


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, hello64: Path) -> Callable[[Surroundings], Made]:
    """make(surroundings): both hello kernels, built and booted in them."""

    def run(one: Surroundings) -> Made:
        root = tmp_path_factory.mktemp("build")
        distributions(root / "site")
        folder = root / one.folder
        shutil.copytree(hello64.parent, folder, ignore=shutil.ignore_patterns("*.c", "*.S", "out"))
        for path in folder.iterdir():
            os.utime(path, (one.modified, one.modified))
        elsewhere = root / "elsewhere"
        elsewhere.mkdir()
        base = folder if one.absolute else Path()
        reports = [
            subprocess.run(
                [PROGRAM, base / "hello.toml", base / "hello32.toml", "-q", "--force", *options],
                check=False,
                cwd=elsewhere if one.absolute else folder,
                umask=one.umask,
                env={
                    **{name: value for name, value in os.environ.items() if name != "LANG"},
                    **one.environment,
                    "PYTHONPATH": os.pathsep.join(str(root / "site" / name) for name in one.plugins),
                },
                capture_output=True,
                text=True,
            )
            for options in (["--json"], [])
        ]
        assert [report.returncode for report in reports] == [1, 1], reports[0].stderr
        images = sorted((folder / "out").glob("*.elf"))
        return Made(
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in images},
            {path.stat().st_mode & 0o7777 for path in images},
            without_places(json.loads(reports[0].stdout)),
            [line.replace(f"{base}/", "").split() for line in reports[1].stdout.splitlines()],
        )

    return run


@pytest.fixture(scope="module")
def plain(make: Callable[[Surroundings], Made]) -> Made:
    """The build that all others are compared with."""
    return make(PLAIN)


def test_the_build_is_worth_comparing(plain: Made) -> None:
    assert list(plain.images) == ["hello32-pvh.elf", "hello64-pvh.elf"]
    assert plain.modes == {0o644}
    runs = [run for recipe in plain.record["recipes"] for run in recipe["images"][0]["runs"]]
    for run in runs:
        assert sorted(finding["rule"] for finding in run["findings"]) == ["ALPHA-001", "BETA-001"]
        assert run["handover"] and run["console"] and len(set(run["traces"])) == 1
    active = {plugin["distribution"] for plugin in plain.record["recipes"][0]["plugins"]}
    assert active == {"bootbuild", "alpha-judge", "beta-judge"}


@pytest.mark.parametrize("other", OTHERS, ids=[one.name for one in OTHERS])
def test_other_surroundings_make_the_same(
    make: Callable[[Surroundings], Made], plain: Made, other: Surroundings
) -> None:
    made = make(other)
    assert made.images == plain.images
    assert made.modes == plain.modes
    assert json.dumps(made.record) == json.dumps(plain.record)  # the order of keys too
    assert made.table == plain.table


def test_what_plugin_authors_get_says_the_same(
    same_bytes: Callable[[Path], tuple[Path, ...]], repository: Path
) -> None:
    (image,) = same_bytes(repository / "recipes/hello.toml")
    assert image.name == "hello64-pvh.elf"


def test_a_file_that_is_laid_out_anew_is_the_same_each_time(
    same_bytes: Callable[[Path], tuple[Path, ...]], repository: Path
) -> None:
    images = same_bytes(repository / "recipes/hello-multiboot.toml")
    assert {image.name for image in images} == {"hello64-multiboot1.elf", "hello64-multiboot2.elf"}
