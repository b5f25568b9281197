"""What a recipe has that its schema does not accept, each key in bootbuild's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.model.rule import Rule
from bootbuild.recipe import rules
from bootbuild.recipe.positions import Key
from bootbuild.recipe.schema import (
    BootTable,
    ExpectTable,
    ModuleTable,
    OutputTable,
    PayloadTable,
    RecipeTable,
)


class Fault(NamedTuple):
    """One key that the schema does not accept."""

    key: Key
    rule: Rule
    message: str
    remedy: str = ""


_TYPES = {
    "string_type": "must be text",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}
_BOUNDED = "give a number within these bounds, or leave the key out"
_EMPTY = ("must not be empty", "write something, or leave the key out")
#: what pydantic says of a value in its own words, in ours, with a remedy
_VALUES = {
    "string_too_short": _EMPTY,
    "too_short": _EMPTY,
    "greater_than": ("must be above 0", _BOUNDED),
    "less_than": ("must be below 2^63", _BOUNDED),
    "finite_number": ("must be a finite number", _BOUNDED),
    "file_name": (
        "a file's name has no `/` and does not begin with a dot",
        "give a name alone; its folder is `output.directory`",
    ),
}
_PLACES = "startup", "reached"  #: keys that name a place in the kernel


def validate(tree: Mapping[str, Any]) -> tuple[RecipeTable, list[Fault]]:
    """The recipe without what is wrong in it, and everything that is."""
    try:
        return RecipeTable.model_validate(tree), []
    except ValidationError as error:
        faults = [_fault(details) for details in error.errors(include_url=False, include_context=False)]
    return RecipeTable.model_validate(_without(tree, {fault.key for fault in faults})), faults


def _fault(details: Mapping[str, Any]) -> Fault:
    key: Key = tuple(details["loc"])
    kind, said, value = details["type"], details["msg"], details["input"]
    if key == ("api",):
        return Fault(key, rules.API, f"recipe format {shown(value)} is not known to this bootbuild")
    if kind == "extra_forbidden":
        return Fault(key, rules.UNKNOWN_KEY, "unknown key", did_you_mean(key[-1], _known(key[:-1])))
    if kind in _TYPES:
        return Fault(key, rules.WRONG_TYPE, f"{_TYPES[kind]}, not {_type_name(value)}")
    if kind == "scalar":
        remedy = "write a symbol such as startup_64, or an address such as 0x1000000"
        remedy = remedy if key[-1] in _PLACES else ""
        return Fault(key, rules.WRONG_SCALAR, f"{shown(value)}: {said}", remedy)
    if kind == "unprintable":
        return Fault(key, rules.UNPRINTABLE, said)
    text, remedy = _VALUES.get(kind, (f"{said[:1].lower()}{said[1:]}", ""))
    return Fault(key, rules.WRONG_VALUE, f"{shown(value)}: {text}", remedy)


def _known(table: Key) -> list[str]:
    """The keys of the table at `table`."""
    tables: dict[Key, type[BaseModel]] = {
        (): RecipeTable,
        ("payload",): PayloadTable,
        ("payload", "modules"): ModuleTable,
        ("output",): OutputTable,
        ("expect",): ExpectTable,
        ("boot",): BootTable,
    }
    return list(tables[tuple(part for part in table if isinstance(part, str))].model_fields)


def _type_name(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "text",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def _without(tree: Any, bad: set[Key], at: Key = ()) -> Any:
    """A copy of `tree` that lacks the keys in `bad`; with a bad element an array goes as a whole."""
    if isinstance(tree, dict):
        return {
            key: _without(value, bad, (*at, key))
            for key, value in tree.items()
            if (*at, key) not in bad
            and not (isinstance(value, list) and any((*at, key, i) in bad for i in range(len(value))))
        }
    if isinstance(tree, list):
        return [_without(value, bad, (*at, index)) for index, value in enumerate(tree)]
    return tree
