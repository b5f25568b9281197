"""docs/plugins.md shows the example's own lines, names all that a plugin may use, quotes real messages."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild import api
from bootbuild.errors import PluginError, Problem
from bootbuild.host import Host
from bootbuild.host.discovery import KINDS, Offer
from bootbuild.host.hooks import HOOKS
from bootbuild.host.rules import RULES
from bootbuild.host.shape import protocol
from bootbuild.host.specs import Specs
from bootbuild.model.verdict import Evidence, Outcome, ProfileVerdict
from bootbuild.stubs.rules import RULES as STUB_RULES

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "docs/plugins.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def quoted(guide: str) -> list[str]:
    """The lines of its one block of messages."""
    (block,) = [code for language, code in BLOCK.findall(guide) if language == "text"]
    return str(block).splitlines()


@pytest.fixture(scope="module")
def words(guide: str) -> set[str]:
    """Everything that the page sets as code in its text, each word of it."""
    text = BLOCK.sub("", guide)
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", code)}


#: The files of each example that the page must quote.
SHOWN = {
    "bootbuild-freebsd": {"freebsd_back.S", "freebsd_back.c", "judge.py", "metadata.c"},
    "bootbuild-toymon": {
        "environments.py",
        "front.S",
        "guests.py",
        "hooks.py",
        "loaders.py",
        "pyproject.toml",
        "stubs.toml",
        "targets.py",
        "test_toymon.py",
        "toyos.toml",
        "toyos_back.S",
    },
    "bootbuild-unikernel": {"guest.py", "test_unikernel.py", "unikernel.toml", "unikernel_back.S"},
}


def test_every_snippet_is_in_an_example_word_for_word(guide: str, repository: Path) -> None:
    snippets = [code for language, code in BLOCK.findall(guide) if language != "text"]
    assert len(snippets) >= 25
    found: set[str] = set()
    for example, pieces in SHOWN.items():
        folder = repository / "plugins/examples" / example
        paths = [path for path in folder.rglob("*") if path.suffix in (".py", ".toml", ".S", ".c", ".h")]
        files = {path.name: path.read_text() for path in paths}
        quoted = {name: {code for code in snippets if code in text} for name, text in files.items()}
        assert pieces <= {name for name, codes in quoted.items() if codes}
        found.update(*quoted.values())
    assert [code for code in snippets if code not in found] == []


def test_every_fence_is_closed_and_has_a_language(guide: str) -> None:
    assert guide.count("```") == 2 * len(BLOCK.findall(guide))


@pytest.mark.parametrize("name", api.__all__)
def test_every_name_that_a_plugin_may_import_is_mentioned(words: set[str], name: str) -> None:
    assert name in words


def test_its_reference_has_the_names_that_there_are_and_no_other(guide: str) -> None:
    _, _, reference = guide.partition("## All of `bootbuild.api`\n")
    assert set(re.findall(r"`(\w+)`", reference)) == set(api.__all__)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plugin_is_there_with_all_that_it_must_have(
    guide: str, words: set[str], kind: str
) -> None:
    assert re.search(rf"^\| `{kind}\.[A-Z@]+` \|", guide, re.MULTILINE)
    shape = protocol(kind)
    members = {name for name in vars(shape) if not name.startswith("_")} if shape else set()
    assert bool(members) == (kind != "hook")
    assert members <= words


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_arguments(guide: str, hook: str) -> None:
    (row,) = re.findall(rf"^\| `{hook}` \|(.*)$", guide, re.MULTILINE)
    code = getattr(Specs, hook).__code__
    arguments = code.co_varnames[1 : code.co_argcount]
    assert re.findall(r"`(\w+)`: ", row) == list(arguments)


def test_the_ranges_of_rules_about_stubs_are_all_of_them(guide: str) -> None:
    ranges = re.findall(r"BB-P(\d{3}) to BB-P(\d{3})", guide)
    named = {f"BB-P{number:03}" for first, last in ranges for number in range(int(first), int(last) + 1)}
    rules = {rule.id for rule in STUB_RULES}
    assert named <= rules
    assert named | {rule for rule in re.findall(r"BB-P\d{3}", guide) if rule in rules} == rules


# The messages, each made by what it tells of.

ACME = """
from bootbuild.api import Evidence, LoaderVerdict, Rule, hookimpl

class Loader:
    name, version, evidence, source = "acme", "1.0", Evidence.INFERRED, "made up"
    rules = {rules}
    {judge} = lambda self, image: LoaderVerdict("acme", "accept")

class Hook:
    @hookimpl
    def {hook}(self, verdict):
        raise KeyError("console")
"""
TOYMON = Offer("target", "toymon", "bootbuild-toymon", "1.0.0", "bootbuild_toymon.targets:Toymon", 1)
VERDICT = ProfileVerdict("acme", "acme", "1", Evidence.INFERRED, Outcome.BOOTED, (), ())


def module(rules: str = "()", judge: str = "judge", hook: str = "bootbuild_judge") -> str:
    """The module `acme`, which is right but for what an argument changes."""
    return ACME.format(rules=rules, judge=judge, hook=hook)


def host(kind: str, value: str, version: str = "1.0", major: int = 1) -> Host:
    """With one offer of the distribution acme-boot."""
    return Host([Offer(kind, "acme", "acme-boot", version, f"acme:{value}", major)])


def doubled() -> object:
    return Host([TOYMON, Offer("target", "toymon", "acme-boot", "1.0", "acme:Toymon", 1)]).target("toymon")


def misnamed() -> None:
    raise PluginError(host("targets", "Target").problems())


MESSAGES: dict[str, tuple[str, Callable[[], object]]] = {
    "BB-P001": ("", lambda: Host([TOYMON]).target("toymoon")),
    "BB-P002": ("", doubled),
    "BB-P003": ("", lambda: host("target", "Target", "2.0", 2).target("acme")),
    "BB-P004": ("", lambda: host("target", "Target").target("acme")),
    "BB-P005": (module(judge="judges"), lambda: host("loader", "Loader").loader("acme")),
    "BB-P006": ("", misnamed),
    "BB-P007": ("", lambda: Host.discover(extra=["acme"])),
    "BB-P008": (module(), lambda: host("hook", "Hook").hooks.judge(VERDICT)),
    "BB-P009": (module(hook="bootbuild_judged"), lambda: host("hook", "Hook").hooks),
    "BB-P010": (module('(Rule("BB-L001", "", "", ""),)'), lambda: host("loader", "Loader").loader("acme")),
}


@pytest.mark.parametrize("rule", MESSAGES)
def test_every_message_is_quoted_as_it_is(
    quoted: list[str], rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cause = MESSAGES[rule]
    if source:
        (tmp_path / "acme.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(PluginError) as caught:
            cause()
    finally:
        sys.modules.pop("acme", None)
    (problem,) = caught.value.problems
    assert isinstance(problem, Problem)
    assert problem.rule.id == rule
    assert f"{problem.where}: {problem.message} ({rule})" in quoted


def test_a_message_of_every_rule_about_plugins_is_quoted_and_no_other(quoted: list[str]) -> None:
    assert [line[-8:-1] for line in quoted] == [rule.id for rule in RULES] == list(MESSAGES)
