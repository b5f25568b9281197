"""A recipe held to its schema: its tables, and what is wrong with each key in bootbuild's own words."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from msgspec import UNSET, ValidationError, convert
from msgspec.structs import fields

from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.model.rule import Rule
from bootbuild.recipe import rules
from bootbuild.recipe.positions import Key
from bootbuild.recipe.schema import Before, RecipeTable, Table

T = TypeVar("T", bound=Table)


class Fault(NamedTuple):
    """One key that the schema does not accept."""

    key: Key
    rule: Rule
    message: str
    remedy: str = ""


_BOUNDED = "give a number within these bounds, or leave the key out"
#: what msgspec says of a value's type, in the words of TOML
_TYPES = {
    "bool": "a boolean",
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "array": "an array",
    "object": "a table",
    "date": "a date or time",
    "datetime": "a date or time",
    "time": "a date or time",
}
_WANTED = _TYPES | {"bool": "true or false"}
_TYPE = re.compile(r"Expected `(?P<wanted>[a-z |]+)`, got `(?P<got>[a-z]+)`")
#: where in the value, at the end of what msgspec says, which may repeat any text of the value before that
_PATH = re.compile(r" - at `(?P<of_key>key` in `)?\$(?P<path>[^`]*)`\Z")
_STEP = re.compile(r"\[(\d+)\]|\.(\w+)")
_TOO_LARGE = "Number out of range"
#: what it says of a value, in our words, with a remedy; others are as it says them
_VALUES = {
    "Expected `str` of length >= 1": ("must not be empty", "write something, or leave the key out"),
    "Expected `int` >= 1": ("must be above 0", _BOUNDED),
    f"Expected `int` <= {(1 << 63) - 1}": ("must be below 2^63", _BOUNDED),
    "Expected `float` > 0.0": ("must be above 0", _BOUNDED),
    _TOO_LARGE: ("must be a finite number", _BOUNDED),
    f"Expected `float` <= {sys.float_info.max}": ("must be a finite number", _BOUNDED),
}


def validate(tree: Mapping[str, Any]) -> tuple[RecipeTable, list[Fault]]:
    """The recipe without what is wrong in it, and everything that is."""
    faults: list[Fault] = []
    return _table(RecipeTable, tree, (), faults), faults


def converted(value: Any, kind: Any, key: Key, faults: list[Fault], custom: Any = None) -> Any:
    """`value` as a `kind`, a type of msgspec's or one that `custom` makes; UNSET with a fault if it is none.

    `custom` is called as `custom(kind, value)` and raises TypeError or ValueError.
    """
    try:
        return convert(value, kind, strict=True, str_keys=True, dec_hook=custom)
    except ValidationError as error:
        faults.append(_fault(str(error), error.__cause__, value, kind, key))
    except SystemError:  # msgspec before 0.22, of an integer that no float holds
        faults.append(_fault(_TOO_LARGE, None, value, kind, key))
    return UNSET


def _table(kind: type[T], tree: Mapping[str, Any], at: Key, faults: list[Fault]) -> T:
    known = {one.name: one.type for one in fields(kind)}
    values = {key: _value(of, tree[key], (*at, key), faults) for key, of in known.items() if key in tree}
    if kind.__struct_config__.forbid_unknown_fields:
        unknown = (key for key in tree if key not in known)
        faults += (
            Fault((*at, key), rules.UNKNOWN_KEY, "unknown key", did_you_mean(key, known)) for key in unknown
        )
    return kind(**{key: value for key, value in values.items() if value is not UNSET})


def _value(kind: Any, value: Any, at: Key, faults: list[Fault]) -> Any:
    """`value` as a `kind`; UNSET if it is none. Of what holds others every part is looked at."""
    bare, before = _bare(kind)
    if get_origin(bare) is dict and isinstance(value, Mapping):
        (_, of) = get_args(bare)
        read = {key: _value(of, one, (*at, key), faults) for key, one in value.items()}
        return {key: one for key, one in read.items() if one is not UNSET}
    if get_origin(bare) is list and isinstance(value, list):
        (of,) = get_args(bare)
        parts = [_value(of, one, (*at, index), faults) for index, one in enumerate(value)]
        return UNSET if any(part is UNSET for part in parts) else parts
    if isinstance(bare, type) and issubclass(bare, Table) and isinstance(value, Mapping):
        return _table(bare, value, at, faults)
    for one in before:
        try:
            value = one.read(value)
        except ValueError as error:
            faults.append(Fault(at, one.rule, f"{shown(value)}: {error}", one.remedy))
            return UNSET
    return converted(value, kind, at, faults)


def _bare(kind: Any) -> tuple[Any, list[Before]]:
    """A type without what is said of it and without None, which TOML has not; and what is read before it."""
    before: list[Before] = []
    while get_origin(kind) in (Annotated, Union, types.UnionType):
        kind, *rest = (one for one in get_args(kind) if one is not type(None))
        before += (one for one in rest if isinstance(one, Before))
    return kind, before


def _fault(said: str, cause: BaseException | None, value: Any, kind: Any, key: Key) -> Fault:
    """What msgspec says against `value`, or against an element of it, in our words."""
    if key == ("api",):
        return Fault(key, rules.API, f"recipe format {shown(value)} is not known to this bootbuild")
    at = _PATH.search(said, len(str(cause)) if cause else 0)
    if at:
        said = said[: at.start()]
        key, value = _inside(at["path"], key, value)
    if match := _TYPE.fullmatch(said):
        wanted = [_WANTED.get(name, name) for name in match["wanted"].split(" | ") if name != "null"]
        message = f"must be {' or '.join(wanted)}, not {_TYPES.get(match['got'], match['got'])}"
        message = f"a key {message}" if at and at["of_key"] else message
        return Fault(key, rules.WRONG_TYPE, message)
    if said.startswith("Invalid enum value"):
        *others, last = map(shown, _choices(kind))
        said, remedy = f"must be {', '.join(others)}{' or ' * bool(others)}{last}", ""
    else:
        said, remedy = _VALUES.get(said, (f"{said[:1].lower()}{said[1:]}", ""))
    rule = rules.WRONG_TYPE if isinstance(cause, TypeError) else rules.WRONG_VALUE
    return Fault(key, rule, f"{shown(value)}: {said}", remedy)


def _inside(path: str, key: Key, value: Any) -> tuple[Key, Any]:
    """The part of `value` at `path`; of a table that has any keys msgspec does not say which it is."""
    while step := _STEP.match(path):
        part = step[2] or int(step[1])
        try:
            value = value[part]
        except (LookupError, TypeError):  # no path: a key may read like one
            break
        key, path = (*key, part), path[step.end() :]
    return key, value


def _choices(kind: Any) -> list[object]:
    """The values of every Literal and Enum in a type."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [one.value for one in kind]
    if get_origin(kind) is Literal:
        return [*get_args(kind)]
    return [value for part in get_args(kind) for value in _choices(part)]
