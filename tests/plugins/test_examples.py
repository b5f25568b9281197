"""What holds for every example distribution: its wheel, its rules, its own suite, its binaries' sources."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootbuild.stubs.build import toolchain


@dataclass(frozen=True)
class Example:
    """A folder of plugins/examples, and what there is in it to be found."""

    folder: Path
    rules: int
    kernel: str
    recipe: str
    said: bytes  #: by the kernel, and waited for by the suite

    @property
    def package(self) -> str:
        return self.folder.name.replace("-", "_")


EXAMPLES = {
    "bootbuild-freebsd": (9, "kernel/hammer.elf", "recipes/hammer.toml", b"hammer: "),
    "bootbuild-toymon": (10, "kernel/toyos.elf", "recipes/toyos.toml", b"toyos: "),
    "bootbuild-unikernel": (2, "kernel/kernel.bin", "recipes/unikernel.toml", b"started with: "),
}


@pytest.fixture(params=EXAMPLES)
def one(request: pytest.FixtureRequest, repository: Path) -> Example:
    return Example(repository / "plugins/examples" / request.param, *EXAMPLES[request.param])


@pytest.fixture
def copy(one: Example, tmp_path: Path) -> Path:
    """The distribution as its author has it, without the package: that is the installed one."""
    ignored = shutil.ignore_patterns(one.package, "__pycache__", ".*_cache")
    return Path(shutil.copytree(one.folder, tmp_path / "copy", ignore=ignored))


def outcomes(report: str) -> set[str]:
    """The outcomes of all boots in a build's JSON report."""
    images = [image for recipe in json.loads(report)["recipes"] for image in recipe["images"]]
    return {run["outcome"] for image in images for run in image["runs"]}


def test_every_example_is_here(repository: Path) -> None:
    assert sorted(path.name for path in (repository / "plugins/examples").iterdir()) == list(EXAMPLES)


def test_the_wheel_holds_the_package_with_its_stubs_and_nothing_else(
    one: Example, wheels: Mapping[str, Path]
) -> None:
    with zipfile.ZipFile(wheels[one.folder.name]) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    package = [*(one.folder / one.package).rglob("*")]
    assert names == {
        str(path.relative_to(one.folder)) for path in package if path.is_file() and path.suffix != ".pyc"
    }
    assert {".bin", ".json", ".S"} <= {Path(name).suffix for name in names}


def test_every_rule_of_its_own_is_told_apart_from_bootbuilds_and_tested(
    environment: Any, one: Example
) -> None:
    source = "".join(path.read_text() for path in sorted((one.folder / one.package).glob("*.py")))
    rules = set(re.findall(r'= Rule\(\s*"([^"]+)"', source))
    assert len(rules) == one.rules
    assert not [rule for rule in rules if rule.startswith("BB-")]
    tested = "".join(path.read_text() for path in (one.folder / "tests").glob("test_*.py"))
    assert not [rule for rule in rules if f'"{rule}"' not in tested]
    for rule in rules:
        assert environment.run("bootbuild", "explain", rule).stdout.startswith(f"{rule}: ")


def test_its_own_suite_passes_there(environment: Any, copy: Path) -> None:
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", folder=copy)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout


def test_its_own_suite_notices_a_kernel_that_says_something_else(
    environment: Any, one: Example, copy: Path
) -> None:
    kernel = copy / one.kernel
    kernel.write_bytes(kernel.read_bytes().replace(one.said, one.said.upper()))
    choice = "two_protocols or by_everybody or hammer_finds"
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", "-k", choice, folder=copy)
    assert done.returncode == 1
    assert "' was not printed" in done.stdout


@pytest.mark.usefixtures("gcc")
def test_rebuilt_stubs_are_the_shipped_bytes_or_boot_as_well(
    environment: Any, one: Example, tmp_path: Path
) -> None:
    shipped = environment.site / one.package
    package = Path(shutil.copytree(shipped, tmp_path / "site" / one.package))
    blobs = sorted(path.name for path in shipped.glob("stubs/*.bin"))
    assert blobs
    for path in (package / "stubs").iterdir():
        if path.suffix in (".bin", ".json"):
            path.unlink()
    done = environment.run("python", "-m", "bootbuild.stubs", "build", package / "stubs")
    assert done.returncode == 0, done.stderr
    for name in blobs:
        if made_here(shipped / "stubs" / name):
            for path in (Path(name), Path(name).with_suffix(".json")):
                assert (package / "stubs" / path).read_bytes() == (shipped / "stubs" / path).read_bytes(), (
                    path
                )
    built = environment.run(
        "bootbuild", one.folder / one.recipe, "--json", "-o", tmp_path / "out",
        environment={"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert {"BOOTED"} <= outcomes(built.stdout) <= {"BOOTED", "REFUSED"}


def made_here(blob: Path) -> bool:
    """Whether a blob was built with the toolchain of this machine."""
    return bool(json.loads(blob.with_suffix(".json").read_text())["toolchain"] == toolchain())


@pytest.mark.usefixtures("gcc")
def test_the_kernel_is_what_its_source_says(
    make_program: Path, environment: Any, one: Example, copy: Path, tmp_path: Path
) -> None:
    kernel = copy / one.kernel
    shipped = kernel.read_bytes()
    kernel.unlink()
    path = os.pathsep.join([str(environment.prefix / "bin"), os.environ["PATH"]])
    command = [str(make_program), "-s", "-C", str(kernel.parent)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": path})
    blob = next((one.folder / one.package / "stubs").glob("*.bin"))
    if made_here(blob):
        assert kernel.read_bytes() == shipped
    done = environment.run("bootbuild", copy / one.recipe, "--json", "-o", tmp_path / "out")
    assert {"BOOTED"} <= outcomes(done.stdout) <= {"BOOTED", "REFUSED"}
