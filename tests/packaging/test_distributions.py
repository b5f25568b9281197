"""What ships is what the manifests say, and it is the same bytes wherever it is built."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def _wheel_names(archive: Path) -> set[str]:
    version = archive.name.split("-")[1]
    with zipfile.ZipFile(archive) as file:
        return {name.replace(f"-{version}.dist-info/", "-VERSION.dist-info/") for name in file.namelist()}


def _sdist_names(archive: Path) -> set[str]:
    with tarfile.open(archive) as file:
        return {member.name.partition("/")[2] for member in file if member.isfile()}


def _held_to_manifest(kind: str, names: set[str]) -> None:
    listed = set((HERE / f"manifest-{kind}.txt").read_text().split("\n")) - {""}
    missing, new = sorted(listed - names), sorted(names - listed)
    assert (missing, new) == ([], []), f"{kind}: missing {missing}, new {new}; if meant: make manifest"


def test_the_wheel_holds_what_its_manifest_lists(built: Any) -> None:
    _held_to_manifest("wheel", _wheel_names(built.wheel))


def test_the_sdist_holds_what_its_manifest_lists(built: Any) -> None:
    _held_to_manifest("sdist", _sdist_names(built.sdist))


def test_the_wheel_has_sources_of_all_that_is_binary_in_it(built: Any) -> None:
    names = _wheel_names(built.wheel)
    blobs = [name for name in names if name.endswith(".bin") and "/stubs/" in name]
    assert blobs
    for blob in blobs:
        folder, _, stem = blob.removesuffix(".bin").rpartition("/")
        assert f"{folder}/{stem}.json" in names
        assert f"{folder}/stubs.toml" in names, "how it is rebuilt"
        assert any(name.startswith(f"{folder}/") and name.endswith(".S") for name in names)


def test_the_wheel_has_the_whole_example_that_new_plugin_copies(built: Any, repository: Path) -> None:
    example = repository / "plugins/examples/bootbuild-unikernel"
    files = {str(path.relative_to(example)) for path in example.rglob("*") if path.is_file()}
    inside = "bootbuild/guests/plugin/"
    shipped = {name.removeprefix(inside) for name in _wheel_names(built.wheel) if name.startswith(inside)}
    assert shipped == {name for name in files if "__pycache__" not in name}


def test_tests_examples_and_droppings_stay_out_of_the_wheel(built: Any) -> None:
    tops = {name.partition("/")[0] for name in _wheel_names(built.wheel)}
    assert all(top.startswith("bootbuild") for top in tops), tops
    assert not [name for name in _wheel_names(built.wheel) if "__pycache__" in name or "examples/" in name]


def test_the_sdist_makes_the_same_wheel(built: Any, built_from_sdist: Path) -> None:
    assert built_from_sdist.read_bytes() == built.wheel.read_bytes()


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_another_folder_umask_and_clock_make_the_same_bytes(
    kind: str, built: Any, built_elsewhere: Any
) -> None:
    ours, theirs = getattr(built, kind), getattr(built_elsewhere, kind)
    assert ours.name == theirs.name
    assert ours.read_bytes() == theirs.read_bytes()


def test_every_plugin_folder_is_in_the_wheel(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text())
    packages = set(settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    folders = {f"plugins/{path.parent.name}" for path in (repository / "plugins").glob("*/__init__.py")}
    assert packages == {"builder/bootbuild", *folders}


def test_the_pins_satisfy_what_is_asked_for(repository: Path) -> None:
    """Every requirement of pyproject.toml has an exact pin that it accepts."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    settings = tomllib.loads((repository / "pyproject.toml").read_text())
    extras = settings["project"]["optional-dependencies"].values()
    asked = [*settings["project"]["dependencies"], *settings["build-system"]["requires"], *chain(*extras)]
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in map(Requirement, asked):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement
