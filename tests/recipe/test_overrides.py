"""The command line's changes to a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bootbuild.host import Host
from bootbuild.recipe.model import ModuleRecipe, Recipe
from bootbuild.recipe.overrides import Overrides, split_module
from bootbuild.recipe.read import read

Read = Callable[..., Recipe]
Problems = Callable[..., Sequence[str]]

RECIPE = """\
api = 1
[payload]
path = "nothing here"
cmdline = "old"
modules = [{path = "nothing either"}]
[targets.toy]
"""


@pytest.fixture
def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is not the recipe's."""
    (folder / "sub").mkdir()
    (folder / "sub/r.toml").write_text(RECIPE)
    return Path("sub/r.toml")


def test_paths_of_arguments_are_relative_to_the_current_folder(
    elsewhere: Path, host: Host, folder: Path
) -> None:
    overrides = Overrides("kernel", ("one=for one", "two"), "new", "images")
    recipe = read(elsewhere, host, overrides)
    assert recipe.payload.path == folder / "kernel"
    assert recipe.payload.modules == (ModuleRecipe(folder / "one", "for one"), ModuleRecipe(folder / "two"))
    assert recipe.payload.cmdline == "new"
    assert recipe.output.directory == Path("images")  # is shown, and so as it was given


def test_paths_of_settings_are_relative_to_the_recipe(elsewhere: Path, host: Host) -> None:
    overrides = Overrides(settings=("payload.path=../kernel", "payload.modules=[{path='../one'}]"))
    recipe = read(elsewhere, host, overrides)
    assert recipe.payload.path == Path("sub/../kernel")
    assert recipe.payload.modules == (ModuleRecipe(Path("sub/../one")),)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("payload.cmdline=a b", "a b"),
        ("payload.cmdline='a b'", "a b"),
        ("payload.cmdline=console=ttyS0", "console=ttyS0"),
        ("payload.cmdline=", ""),
        ('payload."cmdline"=x', "x"),
        (" payload . cmdline = x", " x"),
    ],
)
def test_a_setting_is_a_toml_value_or_plain_text(read_text: Read, setting: str, value: str) -> None:
    overrides = Overrides("kernel", ("one",), settings=(setting,))
    assert read_text(RECIPE, overrides).payload.cmdline == value


def test_settings_make_tables_that_are_not_there(read_text: Read) -> None:
    overrides = Overrides("kernel", ("one",), settings=("boot.memory=64M", "targets.tin.entry=native"))
    recipe = read_text(RECIPE, overrides)
    assert recipe.boot.memory == 64 << 20
    assert recipe.targets["tin"].entry == "native"


def test_the_last_setting_wins(read_text: Read) -> None:
    overrides = Overrides("kernel", ("one",), "c", settings=("payload.cmdline=a", "payload.cmdline=b"))
    assert read_text(RECIPE, overrides).payload.cmdline == "b"


def test_a_problem_names_the_argument_that_made_it(problems: Problems, folder: Path) -> None:
    overrides = Overrides(
        "nope", ("nope=x",), "a\nb", "out", ("payload.width=65", "targets.toy.limit=x", "boo=1")
    )
    assert problems(RECIPE, overrides) == [
        "--set payload.width: 65: must be 32 or 64 (BB-R010)",
        "--cmdline: 'a\\nb': holds a NUL or a line break (BB-R025)",
        "--set boo: unknown key (BB-R007)",
        "--set targets.toy.limit: must be an integer, not text (BB-R009)",
        f"--module: '{folder}/nope' does not exist (BB-R015)",
        f"--payload: '{folder}/nope' does not exist (BB-R015)",
    ]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("=1", "--set : not a dotted key"),
        ("a..b=1", "--set a..b: not a dotted key"),
        ("a b=1", "--set a b: not a dotted key"),
        ("a\nb=1", "--set a\\nb: not a dotted key"),
        ("[a]\nb=1", "--set [a]\\nb: not a dotted key"),
        ("api.x=1", "--set api.x: this key is inside of something that is no table"),
        (
            "payload.modules.0.path=x",
            "--set payload.modules.0.path: this key is inside of something that is no table",
        ),
        ("a=" + "[" * 40 + "]" * 40, "--set a: nested more than 32 deep"),
        ("boot.budget=\udcff", "--set boot.budget: is not UTF-8"),
        ("targets.toy.name=\udcff", "--set targets.toy.name: is not UTF-8"),
        ("'\udcff'=1", "--set '\\udcff': is not UTF-8"),
        ("a." * 40 + "a=1", "--set " + "a." * 29 + "a…: not a dotted key"),
    ],
)
def test_a_setting_that_cannot_be_applied(problems: Problems, setting: str, problem: str) -> None:
    found = problems(RECIPE, Overrides("kernel", ("one",), settings=(setting,)))
    assert found == [f"{problem} (BB-R020)"]


def test_bytes_that_are_no_utf8_are_refused(problems: Problems) -> None:
    overrides = Overrides("kernel", ("one",), cmdline="\udcff")
    assert problems(RECIPE, overrides) == ["--cmdline: '\\udcff': is not UTF-8 (BB-R025)"]


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("one", ("one", "")),
        ("one=", ("one", "")),
        ("one=a=b c", ("one", "a=b c")),
        ("with=sign", ("with=sign", "")),
        ("with=sign=x", ("with=sign", "x")),
        ("missing=x", ("missing", "x")),
        ("x" * 5000 + "=y", ("x" * 5000, "y")),
    ],
)
def test_a_module_argument_is_a_file_and_its_command_line(
    folder: Path, argument: str, parts: tuple[str, str]
) -> None:
    (folder / "with=sign").write_bytes(b"")
    assert split_module(argument) == parts
