"""What a right recipe says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bootbuild.recipe.model import (
    BootRecipe,
    ExpectRecipe,
    ModuleRecipe,
    OutputRecipe,
    PayloadRecipe,
    Recipe,
    TargetRecipe,
)

Read = Callable[..., Recipe]

FULL = """\
api = 1

[payload]
path = "kernel"
guest = "linux"
startup = "startup_64"
width = 64
symbols = "two"
cmdline = "console=ttyS0 quiet"

[[payload.modules]]
path = "one"
cmdline = "first"
[[payload.modules]]
path = "two"

[targets.toy]
entry = "native"
profiles = ["box"]
startup = 0x1000000
mode = "slow"
order = ["b", "a"]
limit = 9
deep = true
ratio = 2
table = "one"
tables = ["one", "two"]
named = {a = "one"}
[targets.tin]

[output]
directory = "images"
combine = ["toy", "tin"]

[expect]
console = "hello"

[boot]
memory = "64M"
budget = 1000
timeout = 2.5
"""

LEAST = 'api = 1\npayload.path = "kernel"\ntargets.tin = {}\n'


def test_a_full_recipe_says_all_this(read_text: Read, folder: Path) -> None:
    recipe = read_text(FULL)
    options = recipe.targets["toy"].options
    assert recipe == Recipe(
        path=Path("r.toml"),
        payload=PayloadRecipe(
            path=Path("kernel"),
            guest="linux",
            startup="startup_64",
            width=64,
            symbols=Path("two"),
            cmdline="console=ttyS0 quiet",
            modules=(ModuleRecipe(Path("one"), "first"), ModuleRecipe(Path("two"))),
        ),
        targets={
            "toy": TargetRecipe("toy", "native", ("toy@box",), 0x1000000, options),
            "tin": TargetRecipe("tin", "insert", None, None, None),
        },
        output=OutputRecipe(Path("images"), ("toy", "tin")),
        expect=ExpectRecipe("hello"),
        boot=BootRecipe(64 << 20, 1000, 2.5),
    )
    assert repr(options) == (
        "ToyOptions(mode='slow', order=('b', 'a'), limit=9, deep=True, ratio=2.0, table=PosixPath('one'), "
        "tables=(PosixPath('one'), PosixPath('two')), named={'a': PosixPath('one')})"
    )


def test_the_least_recipe_leaves_all_else_to_defaults(read_text: Read) -> None:
    recipe = read_text(LEAST)
    assert recipe.payload == PayloadRecipe(Path("kernel"), None, None, None, None, "", ())
    assert recipe.targets == {"tin": TargetRecipe("tin", "insert", None, None, None)}
    assert recipe.output == OutputRecipe(Path("out"), ())
    assert recipe.expect == ExpectRecipe(None)
    assert recipe.boot == BootRecipe(None, None, None)


def test_targets_keep_the_order_of_the_file(read_text: Read) -> None:
    text = 'api = 1\n[payload]\npath = "kernel"\n[targets.toy]\n[targets.tin]\n'
    assert list(read_text(text).targets) == ["toy", "tin"]
    assert list(read_text(text.replace("toy", "t").replace("tin", "toy").replace("t]", "tin]")).targets) == [
        "tin",
        "toy",
    ]


def test_a_recipe_cannot_be_changed(read_text: Read) -> None:
    recipe = read_text(LEAST)
    with pytest.raises(TypeError):
        recipe.targets["x"] = recipe.targets["tin"]  # type: ignore[index]


@pytest.mark.parametrize("name", ["toy@box", "box"])
def test_a_profile_may_be_named_in_full(read_text: Read, name: str) -> None:
    text = f'api = 1\npayload.path = "kernel"\ntargets.toy.profiles = ["{name}"]\n'
    assert read_text(text).targets["toy"].profiles == ("toy@box",)


def test_crlf_and_comments_are_toml(read_text: Read) -> None:
    assert read_text(("# a comment\n" + FULL).replace("\n", "\r\n")) == read_text(FULL)


@pytest.mark.parametrize(
    ("written", "startup"),
    [('"_start"', "_start"), ('"0x100000"', 0x100000), ("0x100000", 0x100000), ('"1M"', 1 << 20), ("0", 0)],
)
def test_a_startup_path_is_a_symbol_or_an_address(read_text: Read, written: str, startup: object) -> None:
    assert read_text(LEAST + f"payload.startup = {written}\n").payload.startup == startup


def test_paths_are_relative_to_the_recipe(read_text: Read, folder: Path, host: object) -> None:
    from bootbuild.host import Host
    from bootbuild.recipe.read import read

    (folder / "sub").mkdir()
    (folder / "sub/kernel").write_bytes(b"")
    (folder / "sub/table").write_bytes(b"")
    (folder / "sub/r.toml").write_text(LEAST + 'targets.toy = {table = "table"}\n')
    assert isinstance(host, Host)
    recipe = read(Path("sub/r.toml"), host)
    assert recipe.payload.path == Path("sub/kernel")
    assert recipe.output.directory == Path("sub/out")
    options = recipe.targets["toy"].options
    assert getattr(options, "table", None) == Path("sub/table")
