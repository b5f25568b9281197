"""Whether an object is what its plugin kind promises: every attribute there, under the promised name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from bootbuild.model.rule import Rule


def protocol(kind: str) -> type[Any] | None:
    """The protocol of a plugin kind; None for hooks, whose shape pluggy checks."""
    from bootbuild import api

    return {"target": api.Target, "guest": api.Guest, "profile": api.Profile, "loader": api.Loader}.get(kind)


def kind_of(plugin: object) -> str | None:
    """The kind whose protocol `plugin` fulfils; "hook" for one with lifecycle hooks; None for neither."""
    for kind in ("target", "guest", "profile", "loader"):
        if not any(True for _ in _missing(kind, plugin)):
            return kind
    return "hook" if any(name.startswith("bootbuild_") for name in dir(plugin)) else None


def name_of(kind: str, plugin: Any) -> str:
    """What an entry point for `plugin` would be called, without its kind."""
    if kind == "hook":
        return str(getattr(plugin, "__name__", type(plugin).__name__))
    return f"{plugin.target}@{plugin.name}" if kind == "profile" else str(plugin.name)


def faults(kind: str, name: str, plugin: Any) -> list[str]:
    """Everything in which `plugin` is not a `kind` called `name`; each a part of a sentence."""
    found = list(_missing(kind, plugin))
    if found or protocol(kind) is None:
        return found
    if name_of(kind, plugin) != name:
        found.append(f"calls itself {name_of(kind, plugin)!r}")
    rules = getattr(plugin, "rules", ())
    if not isinstance(rules, tuple) or not all(isinstance(rule, Rule) for rule in rules):
        found.append("has `rules` that are not a tuple of Rule")
    options = getattr(plugin, "options", None)
    if kind == "target" and options is not None:
        if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
            found.append("has `options` that are neither a dataclass nor None")
        elif any(_required(field) for field in dataclasses.fields(options)):
            found.append("has `options` with a field that lacks a default")
    return found


def _missing(kind: str, plugin: object) -> Iterator[str]:
    shape = protocol(kind)
    if shape is None:
        return
    for name, member in vars(shape).items():
        if isinstance(member, property) and not hasattr(plugin, name):
            yield f"has no attribute {name!r}"
    methods = [name for name, member in vars(shape).items() if inspect.isfunction(member) and name[0] != "_"]
    for name in methods:
        if not callable(getattr(plugin, name, None)):
            yield f"has no method {name!r}"


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
