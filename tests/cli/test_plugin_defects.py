"""A plugin that is broken inside is told as its author's, by name, never as a defect of bootbuild."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode

Bootbuild = Callable[..., subprocess.CompletedProcess[str]]

ACME = """
from dataclasses import replace
from bootbuild.api import hookimpl
from bootbuild.guests.native import Native
from bootbuild_pvh.environments import Qemu

class Acme(Qemu):
    name, rules = "acme", ()
    def scene(self, *arguments, **more):
        raise KeyError("oops")

class NoScene(Qemu):
    name, rules, loader = "acme", (), ""
    def scene(self, *arguments, **more):
        return None

class Nowhere(Qemu):
    name, rules, loader = "acme", (), ""
    def scene(self, *arguments, **more):
        return replace(super().scene(*arguments, **more), regions=())

class NoHandover(Native):
    name, rules = "acme", ()
    def judge(self, *arguments):
        return None

class NoJson(NoHandover):
    def judge(self, *arguments):
        return {"cmdline": b"x"}, []

class NoFinding(NoHandover):
    def judge(self, *arguments):
        return {}, ["wrong"]

class Judge:
    @hookimpl
    def bootbuild_judge(self, verdict):
        return "looks fine"
"""


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("acme:Acme", "acme, Acme.scene: -p acme:Acme (-p) raised KeyError: 'oops' (BB-P008)"),
        (
            "acme:NoScene",
            "acme, NoScene.scene: -p acme:NoScene (-p) returned None, which is no Scene (BB-P008)",
        ),
        ("acme:Nowhere", "acme, Nowhere.scene: -p acme:Nowhere (-p) made a Scene that cannot be: load "),
        (
            "acme:Judge",
            "bootbuild_judge: -p acme:Judge (-p) returned 'looks fine', which is no Finding (BB-P008)",
        ),
    ],
)
def test_its_owner_is_named(bootbuild: Bootbuild, hello: Path, added: str, said: str) -> None:
    (hello / "acme.py").write_text(ACME)
    only = f'targets.pvh.profiles=["{"qemu" if "Judge" in added else "acme"}"]'
    done = bootbuild("hello.toml", "-q", "--set", only, "-p", added, env={"PYTHONPATH": str(hello)})
    assert (done.returncode, done.stdout) == (ExitCode.PLUGIN, "")
    (line,) = done.stderr.splitlines()[-1:]
    assert said in line
    assert "defect of bootbuild" not in line


@pytest.mark.parametrize(
    ("guest", "returned"),
    [("NoHandover", "None"), ("NoJson", "({'cmdline': b'x'}, [])"), ("NoFinding", "({}, ['wrong'])")],
)
def test_so_is_the_owner_of_a_guest_that_judges_nothing(
    bootbuild: Bootbuild, hello: Path, guest: str, returned: str
) -> None:
    (hello / "acme.py").write_text(ACME)
    arguments = ("--set", "payload.guest=acme", "-p", f"acme:{guest}")
    done = bootbuild("hello.toml", "-q", *arguments, env={"PYTHONPATH": str(hello)})
    assert (done.returncode, done.stdout) == (ExitCode.PLUGIN, "")
    said = (
        f"acme, {guest}.judge: -p acme:{guest} (-p) returned {returned}, which is no handover of JSON types"
    )
    assert said in done.stderr


def test_what_is_raised_in_nobodys_code_is_bootbuilds_own(bootbuild: Bootbuild, hello: Path) -> None:
    (hello / "sitecustomize.py").write_text(
        "import bootbuild.pipeline\ndef broken(*_):\n    raise KeyError('ours')\n"
        "bootbuild.pipeline.read_payloads = broken\n"
    )
    done = bootbuild("hello.toml", "-q", env={"PYTHONPATH": str(hello)})
    assert done.returncode == ExitCode.INTERNAL
    assert "a defect of bootbuild itself: KeyError: 'ours'" in done.stderr
