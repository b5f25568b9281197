"""A recipe that a test writes as text: built, and booted in all that it names."""

from __future__ import annotations

from pathlib import Path

from bootbuild.host import Host
from bootbuild.model.record import BuildRecord
from bootbuild.pipeline import build
from bootbuild.recipe.read import read


def build_text(text: str, folder: Path) -> BuildRecord:
    """Write `text` to recipe.toml in `folder`, to which its paths are relative, and build it."""
    path = folder / "recipe.toml"
    path.write_text(text)
    host = Host.discover()
    return build(read(path, host), host)
