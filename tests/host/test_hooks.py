"""Lifecycle hooks replace or watch a step; one that raises is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from bootbuild.errors import PluginError
from bootbuild.host import Host
from bootbuild.host.hooks import HOOKS
from bootbuild.model.contribution import Layout
from bootbuild.model.record import BuildRecord
from bootbuild.model.verdict import Evidence, Finding, Outcome, ProfileVerdict

Install = Callable[..., str]

HEAD = "from bootbuild.api import Finding, InputError, Problem, Rule, hookimpl\n"
VERDICT = ProfileVerdict("toy", "box", "1", Evidence.INFERRED, Outcome.BOOTED, (), ())
RECORD = BuildRecord("r.toml", "k", "elf", "00", (), (), "0")
NOTHING = cast("Any", None)
CORE = Layout((), b"core", ())
MINE = Layout((), b"mine", ())


def hook(body: str) -> str:
    return HEAD + "class Hooks:\n" + "".join(f"    {line}\n" for line in body.splitlines())


def raised(host: Host, call: str, *arguments: object) -> str:
    with pytest.raises(PluginError) as error:
        getattr(host.hooks, call)(*arguments)
    assert [problem.rule.id for problem in error.value.problems] == ["BB-P008"]
    return str(error.value)


def test_without_hooks_core_does_everything(install: Install) -> None:
    hooks = Host.discover().hooks
    assert hooks.build(NOTHING, (), lambda: CORE) is CORE
    assert hooks.boot(NOTHING, NOTHING, lambda: VERDICT) is VERDICT
    assert hooks.judge(VERDICT) == ()
    hooks.finished(RECORD)


def test_the_first_result_replaces_core(install: Install) -> None:
    install(
        "h", "1.0", {"hook.a": "Hooks"}, hook("@hookimpl\ndef bootbuild_build(self, payload): return payload")
    )
    hooks = Host.discover().hooks
    assert hooks.build(cast("Any", MINE), (), lambda: CORE) is MINE
    assert hooks.build(NOTHING, (), lambda: CORE) is CORE


def test_boot_can_be_replaced_too(install: Install) -> None:
    install(
        "h",
        "1.0",
        {"hook.a": "Hooks"},
        hook("@hookimpl\ndef bootbuild_boot(self, image, profile): return image"),
    )
    assert (
        Host.discover().hooks.boot(cast("Any", VERDICT), NOTHING, lambda: pytest.fail("core ran")) is VERDICT
    )


def test_all_judges_are_heard(install: Install) -> None:
    judge = "@hookimpl\ndef bootbuild_judge(self, verdict): return Finding({!r}, verdict.name)"
    install("h", "1.0", {"hook.a": "Hooks"}, hook(judge.format("X-1")))
    install("i", "1.0", {"hook.b": "Hooks"}, hook(judge.format("Y-1")))
    install("j", "1.0", {"hook.c": "Hooks"}, hook("@hookimpl\ndef bootbuild_judge(self): return None"))
    host = Host.discover()
    assert set(host.hooks.judge(VERDICT)) == {Finding("X-1", "toy@box"), Finding("Y-1", "toy@box")}
    assert host.active() == (("h", "1.0"), ("i", "1.0"), ("j", "1.0"))


def test_a_module_can_be_a_hook_plugin(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    source = HEAD + "@hookimpl\ndef bootbuild_finished(record): print(record.recipe)\n"
    module = install("h", "1.0", {}, source)
    install("i", "1.0", {"hook.m": "it"}, f"import {module} as it")
    Host.discover().hooks.finished(RECORD)
    assert capsys.readouterr().out == "r.toml\n"


def test_of_several_hooks_the_one_that_raised_is_named(install: Install) -> None:
    body = "@hookimpl\ndef bootbuild_finished(self, record): {}"
    install("good", "1.0", {"hook.a": "Hooks"}, hook(body.format("pass")))
    install("bad", "2.0", {"hook.b": "Hooks"}, hook(body.format("{}['x']")))
    install("fine", "1.0", {"hook.c": "Hooks"}, hook(body.format("pass")))
    text = raised(Host.discover(), "finished", RECORD)
    assert text.startswith("hook.b: bootbuild_finished of bad 2.0 raised KeyError: 'x'")


def test_a_hook_that_exits_does_not_end_bootbuild(install: Install) -> None:
    install(
        "h", "1.0", {"hook.a": "Hooks"}, hook("@hookimpl\ndef bootbuild_finished(self): raise SystemExit(0)")
    )
    assert "raised SystemExit: 0" in raised(Host.discover(), "finished", RECORD)


def test_a_hook_may_refuse_the_input_in_its_own_words(install: Install) -> None:
    refusal = "InputError(Problem(Rule('X-1', '', '', ''), 'k', 'no'))"
    body = f"@hookimpl\ndef bootbuild_judge(self): raise {refusal}"
    install("h", "1.0", {"hook.a": "Hooks"}, hook(body))
    with pytest.raises(Exception, match=r"k: no \(X-1\)"):
        Host.discover().hooks.judge(VERDICT)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("@hookimpl\ndef bootbuild_biuld(self): pass", "did you mean 'bootbuild_build'?"),
        ("@hookimpl\ndef bootbuild_finished(self, recrod): pass", "recrod"),
    ],
)
def test_a_hook_that_fits_no_specification_is_refused(install: Install, body: str, said: str) -> None:
    install("h", "1.0", {"hook.a": "Hooks"}, hook(body))
    host = Host.discover()
    with pytest.raises(PluginError) as error:
        _ = host.hooks
    assert [problem.rule.id for problem in error.value.problems] == ["BB-P009"]
    assert "h 1.0" in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_rule_about_hooks_names_them_all() -> None:
    from bootbuild.host.rules import HOOK_UNKNOWN

    assert all(name in HOOK_UNKNOWN.explanation for name in HOOKS)
