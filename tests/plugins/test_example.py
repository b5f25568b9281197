"""A third party's distribution, installed from its wheel in a clean environment, is like any other plugin."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

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
