"""A target's own recipe keys, held to the types of its plugin's `options` dataclass."""

from __future__ import annotations

import dataclasses
import functools
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import UNSET, ValidationError, convert

from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.recipe import rules
from bootbuild.recipe.faults import Fault, converted
from bootbuild.recipe.positions import Key
from bootbuild.recipe.schema import TargetTable

LONGEST = 600  #: characters that a plugin's own message may have
OWN = TargetTable.__struct_fields__  #: keys that every target has


def read_options(
    options: type[Any] | None, keys: Mapping[str, Any], at: Key, base: Path
) -> tuple[object | None, list[Fault]]:
    """An instance of `options` from the keys of the table at `at`, and everything that is wrong with them.

    A `Path` is, like every path of a recipe, that of a regular file, relative to `base`, the recipe's folder.
    None when the target has no options, or when one is wrong.
    """
    fields = {field.name: field for field in dataclasses.fields(options)} if options is not None else {}
    faults = [
        Fault(
            (*at, key),
            rules.UNREAD_OPTION,
            "this target has no such option",
            did_you_mean(key, [*OWN, *fields]),
        )
        for key in keys
        if key not in fields
    ]
    if options is None:
        return None, faults
    types = typing.get_type_hints(options, include_extras=True)
    values: dict[str, Any] = {}
    for key in fields.keys() & keys.keys():
        problems: list[str] = []
        from_text = functools.partial(_from_text, base, problems)
        try:
            value = converted(keys[key], types[key], (*at, key), faults, from_text)
        except (TypeError, ValueError) as error:  # no type that a recipe can write
            faults.append(Fault((*at, key), rules.WRONG_TYPE, f"{shown(keys[key])}: {error}"))
            continue
        faults += (Fault((*at, key), rules.NO_FILE, problem) for problem in problems)
        if value is not UNSET:
            values[key] = value
    if faults:
        return None, faults
    try:
        return options(**values), []
    except (TypeError, ValueError) as error:  # from the dataclass's own __post_init__
        return None, [_own_fault(error, keys, at)]


def _from_text(base: Path, problems: list[str], kind: type[Any], value: object) -> object:
    """Whatever is made of text; a `Path` below `base`, with what is wrong with its file among `problems`."""
    try:
        made = kind(convert(value, str, strict=True))
    except ValidationError as error:  # as of a custom type: msgspec adds which element it is
        raise TypeError(str(error)) from None
    except (ArithmeticError, LookupError, OSError) as error:  # Fraction("1/0"), ZoneInfo("nowhere")
        raise ValueError(" ".join(map(str, error.args))) from None
    if not isinstance(made, Path):
        return made
    path = base / made
    if problem := file_problem(path):
        problems.append(problem)
    return path


def _own_fault(error: Exception, keys: Mapping[str, Any], at: Key) -> Fault:
    """What a target says against its options: of the key with whose name it begins, else of its table."""
    said = " ".join(str(error).split())
    key, _, rest = said.partition(" ")
    if key in keys and rest:
        at, said = (*at, key), rest
    return Fault(at, rules.WRONG_VALUE, said if len(said) <= LONGEST else f"{said[:LONGEST]} …")


def file_problem(path: Path) -> str:
    """Why there is no regular file at `path` that can be read; "" if there is."""
    try:
        problem = "" if path.is_file() else "is no regular file" if path.exists() else "does not exist"
    except OSError as error:
        problem = error.strerror or "cannot be read"
    if not problem and not os.access(path, os.R_OK):
        problem = "cannot be read"
    return f"{str(path)!r} {problem}" if problem else ""
