"""Plugins are found by metadata alone, and no choice between two of one name is left to chance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bootbuild.errors import PluginError
from bootbuild.host import Host
from bootbuild.host.discovery import installed

Install = Callable[..., str]
Sources = Mapping[str, tuple[str, str]]


def ids(error: pytest.ExceptionInfo[PluginError]) -> list[str]:
    return [problem.rule.id for problem in error.value.problems]


def test_names_come_from_metadata_and_nothing_is_imported(install: Install) -> None:
    module = install(
        "toys",
        "1.0",
        {"target.toy": "Thing", "profile.toy@b": "B", "profile.toy@a": "A", "guest.g": "G"},
        "1 / 0",
    )
    host = Host.discover()
    assert host.names("target") == ("toy",)
    assert host.profiles_of("toy") == ("toy@a", "toy@b")
    assert host.profiles_of("to") == ()
    assert module not in sys.modules
    assert host.active() == ()


def test_a_kind_that_does_not_exist_has_no_names(install: Install) -> None:
    with pytest.raises(KeyError):
        Host.discover().names("colour")


def test_two_of_one_name_are_refused_with_both_named(install: Install, sources: Sources) -> None:
    install("toys", "1.0", {"target.toy": "Thing"}, sources["target"][0])
    install("other-toys", "2.5", {"target.toy": "Thing"}, sources["target"][0])
    host = Host.discover()
    with pytest.raises(PluginError) as error:
        host.target("toy")
    assert ids(error) == ["BB-P002"]
    assert "toys 1.0" in str(error.value)
    assert "other-toys 2.5" in str(error.value)
    assert [problem.rule.id for problem in host.problems()] == ["BB-P002"]


@pytest.mark.parametrize("first", [True, False])
def test_the_order_of_sys_path_does_not_matter(
    install: Install, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    install("toys", "1.0", {"target.toy": "Thing"}, sources["target"][0])
    install("more", "1.0", {"target.tin": "Thing"}, sources["target"][0], site=other)
    monkeypatch.setattr(sys, "path", [str(other), *sys.path] if first else [*sys.path, str(other)])
    assert Host.discover().names("target") == ("tin", "toy")


def test_an_older_copy_of_a_distribution_further_down_sys_path_does_not_count(
    install: Install, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    install("toys", "2.0", {"target.toy": "Thing"}, sources["target"][0])
    install("toys", "1.0", {"target.tin": "Thing"}, sources["target"][0], site=older)
    monkeypatch.setattr(sys, "path", [*sys.path, str(older)])
    assert [(offer.name, offer.version) for offer in installed()] == [("toy", "2.0")]


def test_a_plugin_for_another_api_is_listed_and_never_loaded(install: Install) -> None:
    install("bhyve-boot", "0.3", {"target.bhyve": "Thing"}, "1 / 0", group="bootbuild2")
    host = Host.discover()
    assert host.names("target") == ()
    with pytest.raises(PluginError) as error:
        host.target("bhyve")
    assert ids(error) == ["BB-P003"]
    assert "bhyve-boot 0.3 was made for plugin API 2, this bootbuild has 1" in str(error.value)
    assert [problem.rule.id for problem in host.problems()] == ["BB-P003"]


@pytest.mark.parametrize(
    "point", ["toy", "colour.toy", "target.", "target.toy@box", "profile.toy", "profile.a@b@c"]
)
def test_an_entry_point_that_is_not_kind_dot_name_is_reported_and_offers_nothing(
    install: Install, sources: Sources, point: str
) -> None:
    install("toys", "1.0", {point: "Thing", "target.good": "Thing"}, sources["target"][0])
    host = Host.discover()
    assert host.names("target") == ("good",)
    assert host.names("profile") == ()
    assert [problem.rule.id for problem in host.problems()] == ["BB-P006"]


def test_a_misnamed_entry_point_is_refused_by_name(install: Install) -> None:
    install("toys", "1.0", {"profile.toy": "Thing"})
    with pytest.raises(PluginError) as error:
        Host.discover().profile("toy")
    assert ids(error) == ["BB-P006"]


def test_an_unknown_name_suggests_the_nearest(install: Install) -> None:
    install("toys", "1.0", {"target.multiboot2": "Thing"})
    with pytest.raises(PluginError) as error:
        Host.discover().target("multibot2")
    assert ids(error) == ["BB-P001"]
    assert "did you mean 'multiboot2'?" in str(error.value)


def test_no_plugins_keeps_only_bootbuilds_own(install: Install) -> None:
    install("bootbuild", "1.0", {"target.own": "Thing"})
    install("toys", "1.0", {"target.toy": "Thing"})
    assert Host.discover().names("target") == ("own", "toy")
    assert Host.discover(plugins=False).names("target") == ("own",)


@pytest.mark.parametrize("name", ["other-toys", "Other_Toys", "other.toys"])
def test_a_distribution_can_be_left_out_by_any_spelling_of_its_name(
    install: Install, sources: Sources, name: str
) -> None:
    install("toys", "1.0", {"target.toy": "Thing"}, sources["target"][0])
    install("other-toys", "2.5", {"target.toy": "Thing"}, sources["target"][0])
    host = Host.discover(extra=[f"no:{name}"])
    assert host.target("toy").name == "toy"
    assert host.active() == (("toys", "1.0"),)
    assert Host.discover(blocked=[name]).active() == ()
    assert Host.discover(blocked=[name]).problems() == ()


@pytest.mark.parametrize("how", [{"extra": ["no:toys"]}, {"blocked": ["toys"]}, {"plugins": False}])
def test_what_was_left_out_is_missed_by_name(install: Install, sources: Sources, how: dict[str, Any]) -> None:
    install("toys", "1.0", {"target.toy": "Thing"}, sources["target"][0])
    host = Host.discover(**how)
    for name, remedy in (
        ("toy", "`-p no:` or `--no-plugins` left out toys 1.0, which offers it"),
        ("toyz", ""),
    ):
        with pytest.raises(PluginError) as error:
            host.target(name)
        (problem,) = error.value.problems
        assert (problem.rule.id, problem.remedy) == ("BB-P001", remedy)


def test_leaving_out_what_is_not_installed_is_refused(install: Install) -> None:
    install("toys", "1.0", {"target.toy": "Thing"})
    with pytest.raises(PluginError) as error:
        Host.discover(extra=["no:toyz", "no:"])
    assert ids(error) == ["BB-P007", "BB-P007"]
    assert "did you mean 'toys'?" in str(error.value)


def test_unreadable_metadata_of_others_is_passed_over(install: Install, tmp_path: Path) -> None:
    install("toys", "1.0", {"target.toy": "Thing"})
    for name, text in {"bad": "[bootbuild1\nx", "worse": "[bootbuild1]\nno value\n"}.items():
        info = tmp_path / "site" / f"{name}-1.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(text)
    (tmp_path / "site" / "empty-1.dist-info").mkdir()
    assert Host.discover().names("target") == ("toy",)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["toy"], ("toy@a", "toy@b")),
        (["toy@b"], ("toy@b",)),
        (["toy@b", "toy"], ("toy@b", "toy@a")),
    ],
)
def test_a_target_stands_for_all_its_profiles(
    install: Install, wanted: list[str], chosen: tuple[str, ...]
) -> None:
    install("toys", "1.0", {"target.toy": "T", "profile.toy@a": "A", "profile.toy@b": "B"})
    assert Host.discover().select(wanted) == chosen


def test_every_wrong_profile_is_reported_at_once(install: Install) -> None:
    install("toys", "1.0", {"target.toy": "T", "target.bare": "T", "profile.toy@a": "A"})
    with pytest.raises(PluginError) as error:
        Host.discover().select(["toy@x", "bare", "nothing", "toy"])
    assert ids(error) == ["BB-P001"] * 3
    assert "no profile of the target 'bare' is installed" in str(error.value)
