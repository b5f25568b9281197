"""The JSON schema of recipes is the committed one, and the shipped recipes are what it describes."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from bootbuild.recipe.faults import validate
from bootbuild.recipe.schema import RecipeTable, json_schema

SHIPPED = ("hello.toml", "hello32.toml")


def test_the_committed_schema_is_the_generated_one(repository: Path) -> None:
    committed = repository / "docs/schema/recipe.json"
    assert committed.read_text(encoding="utf-8") == json_schema(), (
        "bootbuild schema > docs/schema/recipe.json"
    )


def test_the_schema_knows_no_null_and_no_stray_titles() -> None:
    assert "null" not in json_schema()
    tables = json.loads(json_schema())["$defs"]
    assert not any("title" in key for table in tables.values() for key in table["properties"].values())


def test_every_key_says_what_it_is() -> None:
    schema = json.loads(json_schema())
    for name, table in {"": schema, **schema["$defs"]}.items():
        for key, value in table["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def test_every_key_is_documented(repository: Path) -> None:
    text = (repository / "docs/recipe.md").read_text(encoding="utf-8")
    schema = json.loads(json_schema())
    for table in (schema, *schema["$defs"].values()):
        for key in table["properties"]:
            assert f"`{key}`" in text, key


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_of_this_repository_is_the_shipped_one_but_for_its_paths(
    repository: Path, name: str
) -> None:
    shipped = (resources.files("bootbuild") / "guests/hello" / name).read_text(encoding="utf-8")
    here = (repository / "recipes" / name).read_text(encoding="utf-8")
    assert here == shipped.replace('path = "', 'path = "../builder/bootbuild/guests/hello/')


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_accepted_as_it_is(repository: Path, name: str) -> None:
    tree = tomllib.loads((repository / "recipes" / name).read_text(encoding="utf-8"))
    table, faults = validate(tree)
    assert faults == []
    assert isinstance(table, RecipeTable)
    assert (repository / "recipes" / table.payload.path).is_file()
    assert all((repository / "recipes" / module.path).is_file() for module in table.payload.modules)
