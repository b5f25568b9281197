"""stubs.toml: which stubs a folder holds and what they are made of."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bootbuild.errors import PluginError, Problem
from bootbuild.stubs import rules

FILE = "stubs.toml"
MAX_BYTES = 1 << 16
_KEYS = ("sources", "width", "position_independent")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.[Sc]")


@dataclass(frozen=True)
class StubSource:
    """One stub as its folder's stubs.toml states it."""

    name: str
    sources: tuple[Path, ...]  #: `.S` and `.c` files, in the order in which they are linked
    width: int  #: 32 or 64: of the code at its entry, and of the C
    position_independent: bool = False  #: of the C: for code that runs elsewhere than it is loaded


def read_manifest(folder: Path) -> tuple[StubSource, ...]:
    """Every stub of `folder`, in the order of its stubs.toml. Raises PluginError (BB-P027)."""
    path = folder / FILE
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes")
        data = tomllib.loads(raw.decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PluginError(Problem(rules.MANIFEST, str(path), f"cannot be read: {reason}")) from None
    stubs = []
    problems = []
    for name, table in data.items():
        found = _problems(folder, name, table)
        problems += [Problem(rules.MANIFEST, f"{path}: {name}", message) for message in found]
        if not found:
            sources = tuple(folder / source for source in table["sources"])
            anywhere = table.get("position_independent", False)
            stubs.append(StubSource(name, sources, table["width"], anywhere))
    if not data:
        problems.append(Problem(rules.MANIFEST, str(path), "names no stub"))
    if problems:
        raise PluginError(problems)
    return tuple(stubs)


def _problems(folder: Path, name: str, table: object) -> list[str]:
    if not _NAME.fullmatch(name):
        return ["is not a name of lower-case letters, digits and _"]
    if not isinstance(table, dict):
        return ["is not a table"]
    found = [f"{key}: unknown key; known are {', '.join(_KEYS)}" for key in table.keys() - set(_KEYS)]
    if not isinstance(anywhere := table.get("position_independent", False), bool):
        found.append(f"position_independent: is {anywhere!r}, neither true nor false")
    if table.get("width") not in (32, 64) or isinstance(table.get("width"), float):
        found.append(
            f"width: is {table['width']!r}, not 32 or 64" if "width" in table else "width: is missing"
        )
    sources = table.get("sources")
    if not isinstance(sources, list) or not sources:
        found.append("sources: is not a list of files")
        sources = []
    for source in sources:
        if not isinstance(source, str) or not _SOURCE.fullmatch(source):
            found.append(f"sources: {source!r} is not a .S or .c file of this folder")
        elif not (folder / source).is_file():
            found.append(f"sources: {source} is not there")
    return sorted(found)
