"""Distributions that are really installed: a dist-info folder and a module, on sys.path."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

Install = Callable[..., str]
"""install(distribution, version, {entry point: object in the module}, source, group) → module's name."""

TARGET = """
from dataclasses import dataclass
from bootbuild.api import Rule

@dataclass(frozen=True)
class Options:
    reloc: bool = False
    order: tuple[str, ...] = ()
    limit: int = 7

class Thing:
    name = "toy"
    summary = "a toy target"
    options = Options
    rules = (Rule("TOY-001", "a toy rule", "because", "do"),)
    def contribute(self, payload, guest, options): raise AssertionError("never called")
    def native(self, payload, guest, options): raise AssertionError("never called")
    def chain(self, payload, guest, options): raise AssertionError("never called")
    def entry_of(self, image): return image.entry
"""

GUEST = """
class Thing:
    name = "toyguest"
    summary = "a toy guest"
    widths = (32, 64)
    entered_at = "linked"
    rules = ()
    def back(self, width): return None
    def judge(self, view, startup, given, stub): return {}, []
"""

PROFILE = """
from bootbuild.api import Evidence

class Thing:
    target = "toy"
    name = "box"
    version = "1.0"
    evidence = Evidence.INFERRED
    source = "made up"
    summary = "a toy box"
    loader = ""
    undefined = ()
    rules = ()
    def scene(self, image, offer, filling, only=None): raise AssertionError("never called")
"""

LOADER = """
from bootbuild.api import Evidence

class Thing:
    name = "toyloader"
    version = "1.0"
    evidence = Evidence.SOURCE
    source = "made up"
    rules = ()
    def judge(self, image): raise AssertionError("never called")
"""

OF_KIND = {
    "target": (TARGET, "toy"),
    "guest": (GUEST, "toyguest"),
    "profile": (PROFILE, "toy@box"),
    "loader": (LOADER, "toyloader"),
}


@pytest.fixture
def sources() -> Mapping[str, tuple[str, str]]:
    """For each kind the source of a complete plugin, class `Thing`, and its name."""
    return OF_KIND


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs distributions into a folder of their own, which alone is searched for metadata."""
    site = tmp_path / "site"
    site.mkdir()
    kept = [entry for entry in sys.path if not any(Path(entry or ".").glob("*bootbuild*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(site), *kept])
    count = itertools.count()
    modules: list[str] = []

    def add(
        distribution: str,
        version: str,
        points: Mapping[str, str],
        source: str = "",
        group: str = "bootbuild1",
        site: Path = site,
    ) -> str:
        module = f"plugin_of_test_{tmp_path.name}_{next(count)}".replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(source)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {module}:{thing}\n" for name, thing in points.items()]
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(lines))
        return module

    yield add
    for module in modules:
        sys.modules.pop(module, None)
