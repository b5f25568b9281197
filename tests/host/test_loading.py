"""A plugin is loaded when it is named, and whatever is wrong with it is one line that says whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from bootbuild.errors import PluginError
from bootbuild.host import Host
from bootbuild.host.catalogue import all_rules

Install = Callable[..., str]
Sources = Mapping[str, tuple[str, str]]

KINDS = ("target", "guest", "profile", "loader")


def failure(host: Host, kind: str, name: str) -> tuple[list[str], str]:
    with pytest.raises(PluginError) as error:
        getattr(host, kind)(name)
    return [problem.rule.id for problem in error.value.problems], str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_of_each_kind_loads_and_is_then_active(
    install: Install, sources: Sources, kind: str
) -> None:
    source, name = sources[kind]
    install("toys", "1.0", {f"{kind}.{name}": "Thing"}, source)
    host = Host.discover()
    plugin = getattr(host, kind)(name)
    assert type(plugin).__name__ == "Thing"
    assert getattr(host, kind)(name) is plugin
    assert host.active() == (("toys", "1.0"),)


def test_an_object_serves_as_well_as_a_class(install: Install, sources: Sources) -> None:
    install("toys", "1.0", {"target.toy": "thing"}, sources["target"][0] + "\nthing = Thing()\n")
    assert Host.discover().target("toy").name == "toy"


@pytest.mark.parametrize(
    ("source", "point", "said"),
    [
        (
            "import no_such_module_at_all",
            "Thing",
            "ModuleNotFoundError: No module named 'no_such_module_at_all'",
        ),
        ("raise RuntimeError('two\\nlines')", "Thing", "RuntimeError: two lines"),
        ("raise SystemExit(3)", "Thing", "SystemExit: 3"),
        ("syntax error", "Thing", "SyntaxError"),
        ("", "Thing", "AttributeError"),
        ("class Thing:\n    def __init__(self, x): pass", "Thing", "TypeError"),
    ],
)
def test_what_does_not_load_names_distribution_entry_point_and_cause(
    install: Install, source: str, point: str, said: str
) -> None:
    module = install("toys", "1.0", {"target.toy": point}, source)
    found, text = failure(Host.discover(), "target", "toy")
    assert found == ["BB-P004"]
    assert text.startswith(f"target.toy: {module}:{point} of toys 1.0 does not load: {said}")
    assert "\n" not in text


def test_one_broken_plugin_does_not_harm_another(install: Install, sources: Sources) -> None:
    install("toys", "1.0", {"target.toy": "Thing"}, sources["target"][0])
    install("broken", "1.0", {"target.bad": "Thing"}, "1 / 0")
    host = Host.discover()
    assert host.target("toy").name == "toy"
    assert [problem.rule.id for problem in host.load_all()] == ["BB-P004"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_without_anything_is_told_everything_that_it_lacks(
    install: Install, sources: Sources, kind: str
) -> None:
    _, name = sources[kind]
    install("toys", "1.0", {f"{kind}.{name}": "Thing"}, "class Thing: pass")
    found, text = failure(Host.discover(), kind, name)
    lacking = {
        "target": ["name", "summary", "options", "rules", "contribute", "native", "chain", "entry_of"],
        "guest": ["name", "summary", "widths", "entered_at", "rules", "back", "judge"],
        "profile": "target name version evidence source summary loader undefined rules scene".split(),
        "loader": ["name", "version", "evidence", "source", "rules", "judge"],
    }[kind]
    assert found == ["BB-P005"] * len(lacking)
    assert all(repr(word) in text for word in lacking)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "toy"', 'name = "tin"', "calls itself 'tin'"),
        ("options = Options", "options = dict", "neither a dataclass nor None"),
        ("options = Options", "options = Options()", "neither a dataclass nor None"),
        ("    limit: int = 7", "    limit: int = 7\n    must: int", "a field that lacks a default"),
        ("rules = (", "rules = [", "not a tuple of Rule"),
        ("def native(", "nativ = 1\n    def nativ2(", "has no method 'native'"),
        (
            'def native(self, payload, guest, options): raise AssertionError("never called")',
            "native = 1",
            "no method 'native'",
        ),
    ],
)
def test_a_target_of_the_wrong_shape_is_refused(
    install: Install, sources: Sources, old: str, new: str, said: str
) -> None:
    source = sources["target"][0].replace(old, new)
    assert source != sources["target"][0]
    if "must: int" in new:
        source = source.replace("@dataclass(frozen=True)", "@dataclass(frozen=True, kw_only=True)")
    source = source.replace('"do"),)', '"do"),]') if "[" in new else source
    install("toys", "1.0", {"target.toy": "Thing"}, source)
    found, text = failure(Host.discover(), "target", "toy")
    assert found == ["BB-P005"]
    assert said in text


def test_only_bootbuilds_own_plugins_use_bootbuilds_rule_ids(install: Install, sources: Sources) -> None:
    source = sources["target"][0].replace("TOY-001", "BB-B001")
    install("toys", "1.0", {"target.toy": "Thing"}, source)
    found, text = failure(Host.discover(), "target", "toy")
    assert found == ["BB-P010"]
    assert "defines the rule BB-B001" in text


def test_bootbuilds_own_distribution_may(install: Install, sources: Sources) -> None:
    install("bootbuild", "1.0", {"target.toy": "Thing"}, sources["target"][0].replace("TOY-001", "BB-L999"))
    assert Host.discover().target("toy").rules[0].id == "BB-L999"


def test_rules_of_loaded_plugins_can_be_explained(install: Install, sources: Sources) -> None:
    install("toys", "1.0", {"target.toy": "Thing"}, sources["target"][0])
    host = Host.discover()
    assert "TOY-001" not in all_rules(host)
    host.load_all()
    rule, origin = all_rules(host)["TOY-001"]
    assert (rule.title, origin) == ("a toy rule", "target.toy of toys 1.0")


@pytest.mark.parametrize("kind", KINDS)
def test_minus_p_adds_a_plugin_that_is_only_importable(install: Install, sources: Sources, kind: str) -> None:
    source, name = sources[kind]
    module = install("unrelated", "1.0", {}, source)
    host = Host.discover(extra=[f"{module}:Thing"])
    assert host.names(kind) == (name,)
    assert type(getattr(host, kind)(name)).__name__ == "Thing"
    assert host.active() == ((f"-p {module}:Thing", "(-p)"),)


def test_minus_p_may_not_shadow_what_is_installed(install: Install, sources: Sources) -> None:
    module = install("toys", "1.0", {"guest.toyguest": "Thing"}, sources["guest"][0])
    found, text = failure(Host.discover(extra=[f"{module}:Thing"]), "guest", "toyguest")
    assert found == ["BB-P002"]
    assert f"-p {module}:Thing" in text


@pytest.mark.parametrize(
    ("argument", "rule"),
    [
        ("nothing", "BB-P007"),
        (":x", "BB-P007"),
        ("x:", "BB-P007"),
        ("no_such_module_at_all:x", "BB-P004"),
        ("json:nothing", "BB-P004"),
        ("json:JSONDecoder", "BB-P005"),
        ("json.decoder:a b", "BB-P004"),
    ],
)
def test_a_wrong_minus_p_is_refused(install: Install, argument: str, rule: str) -> None:
    with pytest.raises(PluginError) as error:
        Host.discover(extra=[argument])
    assert [problem.rule.id for problem in error.value.problems] == [rule]
    assert argument in str(error.value)
