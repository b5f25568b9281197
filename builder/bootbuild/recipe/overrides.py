"""What the command line changes in a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bootbuild.errors import Problem
from bootbuild.host.nearest import shown
from bootbuild.recipe import rules
from bootbuild.recipe.positions import Key
from bootbuild.recipe.source import LARGEST, MalformedError, Source, parse


class Overrides(NamedTuple):
    """Arguments as given. Their paths are relative to the current folder, in `settings` to the recipe."""

    payload: str | None = None
    modules: tuple[str, ...] = ()  #: PATH or PATH=CMDLINE; one or more replace the recipe's list
    cmdline: str | None = None
    output: str | None = None
    settings: tuple[str, ...] = ()  #: KEY=VALUE, in order; applied last
    exact: bool = False  #: a packed kernel unpacks itself
    level: str | None = None  #: where each boot ends


def split_module(text: str) -> tuple[str, str]:
    """PATH and CMDLINE of `--module PATH[=CMDLINE]`: the first `=` after the name of a file parts them."""
    at = text.find("=")
    while at >= 0:
        if _is_file(text[:at]):
            return text[:at], text[at + 1 :]
        at = text.find("=", at + 1)
    if _is_file(text):
        return text, ""
    path, _, cmdline = text.partition("=")
    return path, cmdline


def apply(source: Source, overrides: Overrides) -> list[Problem]:
    """Put the overrides into the tree of `source`; every one that cannot be applied."""
    problems: list[Problem] = []
    for argument, key, value in _settings(overrides, problems):
        table: Any = source.tree
        for part in key[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[key[-1]] = value
            source.overridden[key] = argument
        else:
            message = "this key is inside of something that is no table"
            problems.append(Problem(rules.OVERRIDE, argument, message))
    return problems


def _settings(overrides: Overrides, problems: list[Problem]) -> Iterator[tuple[str, Key, Any]]:
    """(argument, key, value) of each override, in the order in which they apply."""
    if overrides.payload is not None:
        yield "--payload", ("payload", "path"), _absolute(overrides.payload)
    if overrides.modules:
        modules = [split_module(text) for text in overrides.modules]
        tables = [{"path": _absolute(path), "cmdline": cmdline} for path, cmdline in modules]
        yield "--module", ("payload", "modules"), tables
    if overrides.cmdline is not None:
        yield "--cmdline", ("payload", "cmdline"), overrides.cmdline
    if overrides.output is not None:
        yield "--output", ("output", "directory"), _absolute(overrides.output)
    if overrides.exact:
        yield "--exact", ("boot", "exact"), True
    if overrides.level is not None:
        yield "--level", ("boot", "level"), overrides.level
    for text in overrides.settings:
        name, equals, value = text.partition("=")
        quoted = shown(name)
        argument = "--set " + quoted.removeprefix(quoted[0]).removesuffix(quoted[0])
        try:
            text.encode()  # TOML is UTF-8
            if not equals or len(text) > LARGEST:
                raise MalformedError(rules.OVERRIDE, 0, "not of the form KEY=VALUE")
            yield argument, _key(name), _value(value)
        except MalformedError as error:
            problems.append(Problem(rules.OVERRIDE, argument, error.message))
        except UnicodeEncodeError:
            problems.append(Problem(rules.OVERRIDE, argument, "is not UTF-8"))


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # too long for a path
        return False


def _absolute(path: str) -> str:
    return str(Path.cwd() / path) if path else path


def _key(name: str) -> Key:
    """The parts of a dotted key, with TOML's own quoting. Raises MalformedError."""
    try:
        tree: Any = parse(f"{name} = 0")[0]
    except MalformedError:
        raise MalformedError(rules.OVERRIDE, 0, "not a dotted key") from None
    key: Key = ()
    while isinstance(tree, dict) and len(tree) == 1:
        part, tree = next(iter(tree.items()))
        key += (part,)
    if tree != 0 or "\n" in name:
        raise MalformedError(rules.OVERRIDE, 0, "not a dotted key")
    return key


def _value(text: str) -> Any:
    """A TOML value, or the text itself if it is none. Raises MalformedError for deep nesting."""
    try:
        tree = parse(f"v = {text}")[0]
    except MalformedError as error:
        if error.rule is rules.TOO_DEEP:
            raise
        return text
    return tree["v"] if len(tree) == 1 else text
