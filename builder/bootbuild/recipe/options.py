"""A target's own recipe keys, held to the types of its plugin's `options` dataclass."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from bootbuild.host.nearest import did_you_mean, shown
from bootbuild.recipe import rules
from bootbuild.recipe.positions import Key
from bootbuild.recipe.schema import Fault

OWN = ("entry", "profiles", "startup")  #: keys that every target has


def read_options(
    options: type[Any] | None, keys: Mapping[str, Any], at: Key
) -> tuple[object | None, list[Fault]]:
    """An instance of `options` from the keys of the table at `at`, and everything that is wrong with them.

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
        try:
            # JSON mode is the strict one in which an array may still become a tuple
            values[key] = TypeAdapter(types[key]).validate_json(json.dumps(keys[key]), strict=True)
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            said = details["msg"][:1].lower() + details["msg"][1:]
            faults.append(Fault((*at, key), rules.WRONG_TYPE, f"{shown(keys[key])}: {said}"))
        except (
            TypeError,
            ValueError,
            PydanticSchemaGenerationError,
        ) as error:  # a date; a type without schema
            faults.append(Fault((*at, key), rules.WRONG_TYPE, f"{shown(keys[key])}: {error}"))
    if faults:
        return None, faults
    try:
        return options(**values), []
    except (TypeError, ValueError) as error:  # from the dataclass's own __post_init__
        return None, [Fault(at, rules.WRONG_VALUE, " ".join(str(error).split())[:200])]
