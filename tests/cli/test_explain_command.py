"""`explain`, `plugins`, `schema`: what there is, and what each thing means."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.cli import main
from bootbuild.errors import ExitCode
from bootbuild.host import Host
from bootbuild.host.catalogue import all_rules

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]


def test_every_rule_there_is_is_explained_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    host = Host.discover()
    assert host.load_all() == ()
    rules = all_rules(host)
    assert len(rules) > 100
    for code, (rule, origin) in rules.items():
        assert main(["explain", code]) == ExitCode.OK
        head, blank, *body = capsys.readouterr().out.splitlines()
        assert head == f"{code}: {rule.title} ({origin})"
        assert rule.title and not blank
        text = " ".join(line.strip() for line in body)
        explanation, _, remedy = text.partition("  What to do: ")
        assert len(explanation.split()) >= 5, code
        assert len(remedy.split()) >= 2 and remedy.endswith("."), code
        assert all(len(line) <= 92 for line in body), code


def test_a_code_is_found_in_any_case(bootbuild: Bootbuild) -> None:
    done = bootbuild("explain", "bb-r007")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout.startswith("BB-R007: an unknown key (bootbuild.recipe)\n")


@pytest.mark.parametrize("kind", ["target", "guest", "profile"])
def test_every_target_guest_and_profile_is_explained(bootbuild: Bootbuild, kind: str) -> None:
    names = Host.discover().names(kind)
    assert names
    for name in names:
        done = bootbuild("explain", name)
        assert (done.returncode, done.stderr) == (ExitCode.OK, "")
        assert any(line.startswith(f"{kind} {name}: ") for line in done.stdout.splitlines())


def test_a_target_names_its_profiles_and_rules_a_profile_its_source(bootbuild: Bootbuild) -> None:
    target = bootbuild("explain", "pvh").stdout
    for name in Host.discover().profiles_of("pvh"):
        assert f"\nprofile {name}\n" in target
    assert "\n  BB-L001: no PVH entry note\n" in target
    assert "\n  header = {}  (Mapping[str, int])\n" in bootbuild("explain", "linux").stdout
    profile = bootbuild("explain", "pvh@qemu").stdout
    assert "\nversion: 7.2\nevidence: oracle\nsource: " in profile
    assert "\n  ESP (BB-U002)\n" in profile and "\n  BB-L003: " in profile
    assert "\nwidths: 32 and 64\n" in bootbuild("explain", "native").stdout


def test_a_target_says_what_each_of_its_options_is_for(bootbuild: Bootbuild) -> None:
    host = Host.discover()
    targets = [host.target(name) for name in host.names("target")]
    for target in targets:
        said = bootbuild("explain", target.name).stdout
        for option in dataclasses.fields(target.options) if target.options else ():
            head, _, rest = said.partition(f"\n  {option.name} = ")
            meaning = rest.splitlines()[1]
            assert head and meaning.startswith("      ") and len(meaning.split()) >= 2, option.name
    assert any(target.options for target in targets)


@pytest.mark.parametrize(
    ("topic", "near"),
    [
        ("BB-R0077", "did you mean 'BB-R007'?"),
        ("B023", "did you mean 'BB-B023'?"),
        ("b023", "did you mean 'BB-B023'?"),
        ("pvh@qemuu", "did you mean 'pvh@qemu'?"),
        ("nativ", "did you mean 'native'?"),
        ("zzzzzzzz", "`bootbuild plugins` lists targets and profiles"),
        ("x" * 5000, "`bootbuild plugins` lists targets and profiles"),
    ],
)
def test_what_has_no_such_name_is_6_with_the_nearest(bootbuild: Bootbuild, topic: str, near: str) -> None:
    done = bootbuild("explain", topic)
    assert (done.returncode, done.stdout) == (ExitCode.PLUGIN, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"no rule, target, guest, profile or loader has this name (BB-P001); {near}")


def test_plugins_lists_what_the_metadata_offers(bootbuild: Bootbuild) -> None:
    host = Host.discover()
    head, *rows = bootbuild("plugins").stdout.splitlines()
    assert head.split() == ["KIND", "NAME", "DISTRIBUTION", "VERSION", "API", "OBJECT"]
    offers = [(offer.kind, offer.name, offer.distribution) for offer in host.offers()]
    assert [tuple(row.split()[:3]) for row in rows] == offers
    assert ("target", "pvh", "bootbuild") in offers
    found = json.loads(bootbuild("plugins", "--json").stdout)
    assert list(found) == ["schema", "plugins", "problems"]
    assert found["schema"] == "bootbuild/plugins/1" and found["problems"] == []
    assert [(one["kind"], one["name"], one["distribution"]) for one in found["plugins"]] == offers


def test_plugins_left_out_or_added_by_p(bootbuild: Bootbuild, tmp_path: Path) -> None:
    (tmp_path / "toy_plugin.py").write_text(
        "class Toy:\n    name = 'toy'\n    summary = 'a toy'\n    widths = (64,)\n"
        "    entered_at = 'linked'\n    rules = ()\n"
        "    def back(self, width): return None\n    def judge(self, *given): return {}, []\n"
    )
    found = [
        bootbuild("plugins", "--json", *arguments, env={"PYTHONPATH": str(tmp_path)})
        for arguments in (["-p", "toy_plugin:Toy"], ["-p", "no:bootbuild"])
    ]
    added, without = (json.loads(done.stdout)["plugins"] for done in found)
    assert [one["name"] for one in added if one["object"] == "toy_plugin:Toy"] == ["toy"]
    assert all(one["distribution"] != "bootbuild" for one in without)


def test_schema_is_the_committed_one(bootbuild: Bootbuild, repository: Path) -> None:
    done = bootbuild("schema")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert done.stdout == (repository / "docs/schema/recipe.json").read_text(encoding="utf-8")
