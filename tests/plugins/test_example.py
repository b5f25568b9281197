"""A third party's distribution, installed from its wheel in a clean environment, is like any other plugin."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bootbuild.stubs.build import toolchain

OFFERS = {
    "guest.toyos",
    "hook.toymon-console",
    "loader.toymon",
    "profile.pvh@toymon",
    "profile.toymon@v1",
    "target.toymon",
}
OWNER = "bootbuild-toymon"


def outcomes(report: str) -> list[tuple[str, str]]:
    """(profile, outcome) of every boot in a build's JSON report."""
    images = [image for recipe in json.loads(report)["recipes"] for image in recipe["images"]]
    return sorted(
        (f"{run['target']}@{run['profile']}", run["outcome"]) for image in images for run in image["runs"]
    )


@pytest.fixture
def recipe(example: Path) -> Path:
    return example / "recipes/toyos.toml"


@pytest.fixture
def copy(example: Path, tmp_path: Path) -> Path:
    """The distribution as its author has it, without the package: that is the installed one."""
    ignored = shutil.ignore_patterns("bootbuild_toymon", "__pycache__", ".*_cache")
    return Path(shutil.copytree(example, tmp_path / "copy", ignore=ignored))


def test_the_wheel_holds_the_package_with_its_stubs_and_nothing_else(
    example: Path, example_wheel: Path
) -> None:
    with zipfile.ZipFile(example_wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    package = [*(example / "bootbuild_toymon").rglob("*")]
    files = {str(path.relative_to(example)) for path in package if path.is_file() and path.suffix != ".pyc"}
    assert names == files
    assert {"bootbuild_toymon/stubs/toyos_back.bin", "bootbuild_toymon/stubs/toyos_back.S"} <= names


def test_everything_that_it_offers_is_listed_under_its_name(environment: Any) -> None:
    done = environment.run("bootbuild", "plugins", "--json")
    listing = json.loads(done.stdout)
    ours = [entry for entry in listing["plugins"] if entry["distribution"] == OWNER]
    assert {f"{entry['kind']}.{entry['name']}" for entry in ours} == OFFERS
    assert {(entry["version"], entry["api"]) for entry in ours} == {("1.0.0", 1)}
    assert listing["problems"] == []
    table = environment.run("bootbuild", "plugins").stdout
    assert len(re.findall(rf"^\w+ +\S+ +{OWNER} +1\.0\.0 +1 +bootbuild_toymon\.", table, re.MULTILINE)) == 6


def test_its_recipe_is_built_and_boots_in_its_own_profiles_and_in_others(
    environment: Any, recipe: Path, tmp_path: Path
) -> None:
    done = environment.run("bootbuild", recipe, "--json", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    booted = ["pvh@qemu", "pvh@qemu-microvm", "pvh@toymon", "pvh@xen-dom0", "pvh@xen-domu", "toymon@v1"]
    refused = ["pvh@cloud-hypervisor", "pvh@firecracker"]  # toyos.elf is ELF32
    assert sorted(outcomes(done.stdout)) == sorted(
        [(profile, "BOOTED") for profile in booted] + [(profile, "REFUSED") for profile in refused]
    )
    (build,) = json.loads(done.stdout)["recipes"]
    assert {"distribution": OWNER, "version": "1.0.0"} in build["plugins"]
    assert build["images"][0]["targets"] == ["toymon", "pvh"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bootbuild", "toyos-toymon+pvh.elf"]


def test_its_target_starts_bootbuilds_own_guest_at_both_widths(environment: Any, tmp_path: Path) -> None:
    """Which pieces fit each other is computed: its front was never told of the native back."""
    made = environment.run("bootbuild", "new", "hello", tmp_path)
    assert made.returncode == 0, made.stderr
    recipes = [tmp_path / "hello.toml", tmp_path / "hello32.toml"]
    own = ["--set", "targets={toymon={}}", "--set", "expect.console=hello: done"]
    done = environment.run("bootbuild", *recipes, "--json", *own)
    assert done.returncode == 0, done.stderr
    assert outcomes(done.stdout) == [("toymon@v1", "BOOTED")] * 2


@pytest.mark.parametrize("option", [["-p", f"no:{OWNER}"], ["--no-plugins"]])
def test_left_out_it_is_missed_by_name(
    environment: Any, recipe: Path, tmp_path: Path, option: list[str]
) -> None:
    done = environment.run("bootbuild", recipe, "-o", tmp_path, *option)
    assert done.returncode == 3
    why = "`-p no:` or `--no-plugins` left out bootbuild-toymon 1.0.0, which offers it"
    lines = [line.removeprefix(f"bootbuild: error: {recipe}") for line in done.stderr.splitlines()]
    assert lines == [
        f":6: payload.guest: no guest 'toyos' is installed (BB-R012); {why}",
        f":10: targets.toymon: no target 'toymon' is installed (BB-R011); {why}",
    ]
    assert not list(tmp_path.iterdir())
    assert OWNER not in environment.run("bootbuild", "plugins", *option).stdout


def test_left_out_it_takes_no_part_in_what_needs_it_not(environment: Any, tmp_path: Path) -> None:
    environment.run("bootbuild", "new", "hello", tmp_path)
    done = environment.run("bootbuild", tmp_path / "hello.toml", "--json", "-p", f"no:{OWNER}")
    assert {("pvh@qemu", "BOOTED"), ("pvh@xen-domu", "BOOTED")} <= set(outcomes(done.stdout))
    assert not [name for name, _ in outcomes(done.stdout) if "toymon" in name]
    (build,) = json.loads(done.stdout)["recipes"]
    assert [plugin["distribution"] for plugin in build["plugins"]] == ["bootbuild"]


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("TOYMON-002", "TOYMON-002: another version of the toymon protocol"),
        ("TOYMON-007", "TOYMON-007: console output that toymon cannot show (hook.toymon-console of"),
        ("TOYOS-003", "(guest.toyos of bootbuild-toymon 1.0.0)"),
        ("toymon", "memory = 4"),
        ("pvh@toymon", "profile pvh@toymon: toymon 1, which starts PVH images too"),
    ],
)
def test_its_rules_and_names_are_explained(environment: Any, topic: str, said: str) -> None:
    done = environment.run("bootbuild", "explain", topic)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_every_rule_of_its_own_is_told_apart_from_bootbuilds_and_tested(
    environment: Any, example: Path
) -> None:
    source = "".join(path.read_text() for path in sorted((example / "bootbuild_toymon").glob("*.py")))
    rules = set(re.findall(r'= Rule\(\s*"([^"]+)"', source))
    assert len(rules) == 10
    assert not [rule for rule in rules if rule.startswith("BB-")]
    tested = (example / "tests/test_toymon.py").read_text()
    assert not [rule for rule in rules if f'"{rule}"' not in tested]
    listed = environment.run("bootbuild", "explain", "TOYMON-999").stderr
    assert "TOYMON-00" in listed, "the ids of installed plugins are known"


def test_its_own_suite_passes_there(environment: Any, copy: Path) -> None:
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", folder=copy)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed in", done.stdout, re.MULTILINE), done.stdout


def test_its_own_suite_notices_a_kernel_that_says_something_else(environment: Any, copy: Path) -> None:
    kernel = copy / "kernel/toyos.elf"
    kernel.write_bytes(kernel.read_bytes().replace(b"toyos: ", b"TOYOS: "))
    done = environment.run("pytest", "-q", "-p", "no:cacheprovider", "-k", "two_protocols", folder=copy)
    assert done.returncode == 1
    assert "toymon@v1: FAILED" in done.stdout
    assert "'toyos: greeting=hello' was not printed" in done.stdout


@pytest.mark.usefixtures("gcc")
def test_rebuilt_stubs_are_the_shipped_bytes_or_boot_as_well(
    environment: Any, recipe: Path, tmp_path: Path
) -> None:
    shipped = environment.site / "bootbuild_toymon"
    package = Path(shutil.copytree(shipped, tmp_path / "site/bootbuild_toymon"))
    blobs = sorted(path.name for path in shipped.glob("stubs/*.bin"))
    assert len(blobs) == 4
    descriptions = {
        name: json.loads((shipped / "stubs" / name).with_suffix(".json").read_text()) for name in blobs
    }
    for path in (package / "stubs").iterdir():
        if path.suffix in (".bin", ".json"):
            path.unlink()
    done = environment.run("python", "-m", "bootbuild.stubs", "build", package / "stubs")
    assert done.returncode == 0, done.stderr
    for name in blobs:
        if descriptions[name]["toolchain"] == toolchain():
            for path in (Path(name), Path(name).with_suffix(".json")):
                assert (package / "stubs" / path).read_bytes() == (shipped / "stubs" / path).read_bytes(), (
                    path
                )
    built = environment.run(
        "bootbuild", recipe, "--json", "-o", tmp_path / "out",
        environment={"PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert {outcome for _, outcome in outcomes(built.stdout)} == {"BOOTED", "REFUSED"}
    assert ("toymon@v1", "BOOTED") in outcomes(built.stdout)


@pytest.mark.usefixtures("gcc")
def test_the_kernel_is_what_its_source_says(environment: Any, copy: Path, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not on PATH: apt-get install make")
    kernel = copy / "kernel/toyos.elf"
    shipped = kernel.read_bytes()
    kernel.unlink()
    subprocess.run(["make", "-s", "-C", copy / "kernel"], check=True, capture_output=True)
    description = json.loads((environment.site / "bootbuild_toymon/stubs/toyos_back.json").read_text())
    if description["toolchain"] == toolchain():
        assert kernel.read_bytes() == shipped
    done = environment.run("bootbuild", copy / "recipes/toyos.toml", "--json", "-o", tmp_path / "out")
    assert ("toymon@v1", "BOOTED") in outcomes(done.stdout)
    assert {outcome for _, outcome in outcomes(done.stdout)} == {"BOOTED", "REFUSED"}
