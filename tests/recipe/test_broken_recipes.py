"""Every rule about recipes, broken by a recipe whose exact findings are these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bootbuild.errors import ExitCode, OutputError, PluginError, RecipeError
from bootbuild.host import Host
from bootbuild.recipe.overrides import Overrides
from bootbuild.recipe.read import read_all
from bootbuild.recipe.rules import RULES
from bootbuild.recipe.start import copy_example

Problems = Callable[..., Sequence[str]]

HEAD = 'api = 1\npayload.path = "kernel"\ntargets.tin = {}\n'  # lines 1 to 3; what follows is line 4

#: name, recipe, and its one problem: line, key, message and rule
CASES: list[tuple[str, str, str]] = [
    # api
    ("no api", HEAD[8:], ": the key `api` is missing (BB-R006)"),
    ("api 2", HEAD.replace("1", "2", 1), ":1: api: recipe format 2 is not known to this bootbuild (BB-R006)"),
    (
        "api text",
        HEAD.replace("1", "'1'", 1),
        ":1: api: recipe format '1' is not known to this bootbuild (BB-R006)",
    ),
    (
        "api true",
        HEAD.replace("1", "true", 1),
        ":1: api: recipe format True is not known to this bootbuild (BB-R006)",
    ),
    (
        "api a number",
        HEAD.replace("1", "1.0", 1),
        ":1: api: recipe format 1.0 is not known to this bootbuild (BB-R006)",
    ),
    # keys
    ("unknown table", HEAD + "[audit]\n", ":4: audit: unknown key (BB-R007)"),
    ("unknown key", HEAD + "[boot]\nmem = 1\n", ":5: boot.mem: unknown key (BB-R007)"),
    (
        "unknown key of a module",
        HEAD + '[[payload.modules]]\npath = "one"\n[[payload.modules]]\npath = "two"\nname = "x"\n',
        ":8: payload.modules[1].name: unknown key (BB-R007)",
    ),
    ("odd key", HEAD + '"a\\u001bb c" = 1\n', ":4: 'a\\x1bb c': unknown key (BB-R007)"),
    ("no payload", "api = 1\ntargets.tin = {}\n", ": payload.path: this key is required (BB-R008)"),
    ("no path", "api = 1\n[payload]\n[targets.tin]\n", ":2: payload.path: this key is required (BB-R008)"),
    (
        "module without path",
        HEAD + "[[payload.modules]]\n",
        ":4: payload.modules[0].path: this key is required (BB-R008)",
    ),
    # types
    (
        "payload no table",
        "api = 1\npayload = 'x'\ntargets.tin = {}\n",
        ":2: payload: must be a table, not text (BB-R009)",
    ),
    (
        "path no text",
        "api = 1\npayload.path = 1\ntargets.tin = {}\n",
        ":2: payload.path: must be text, not an integer (BB-R009)",
    ),
    (
        "target no table",
        HEAD + "targets.toy = 1\n",
        ":4: targets.toy: must be a table, not an integer (BB-R009)",
    ),
    (
        "targets no table",
        "api = 1\npayload.path = 'kernel'\ntargets = ['tin']\n",
        ":3: targets: must be a table, not an array (BB-R009)",
    ),
    (
        "modules no array",
        HEAD + "payload.modules = {}\n",
        ":4: payload.modules: must be an array, not a table (BB-R009)",
    ),
    (
        "a module no table",
        HEAD + "payload.modules = [\n'one',\n]\n",
        ":5: payload.modules[0]: must be a table, not text (BB-R009)",
    ),
    (
        "budget a number",
        HEAD + "boot.budget = 1.5\n",
        ":4: boot.budget: must be an integer, not a number (BB-R009)",
    ),
    (
        "budget a boolean",
        HEAD + "boot.budget = true\n",
        ":4: boot.budget: must be an integer, not a boolean (BB-R009)",
    ),
    (
        "repair a text",
        HEAD + "payload.repair = 'yes'\n",
        ":4: payload.repair: must be true or false, not text (BB-R009)",
    ),
    (
        "width a number",
        HEAD + "payload.width = 64.0\n",
        ":4: payload.width: must be an integer, not a number (BB-R009)",
    ),
    (
        "elf_class a number",
        HEAD + "payload.elf_class = 64.0\n",
        ":4: payload.elf_class: must be an integer, not a number (BB-R009)",
    ),
    (
        "cmdline a date",
        HEAD + "payload.cmdline = 2000-01-01\n",
        ":4: payload.cmdline: must be text, not a date or time (BB-R009)",
    ),
    (
        "option that names no file",
        HEAD + "[targets.toy]\ntable = 'nowhere'\n",
        ":5: targets.toy.table: 'nowhere' does not exist (BB-R015)",
    ),
    (
        "option that names a folder",
        HEAD + "[targets.toy]\ntables = ['one', '.']\n",
        ":5: targets.toy.tables: '.' is no regular file (BB-R015)",
    ),
    (
        "option that names no file by a key",
        HEAD + "[targets.toy]\nnamed = {a = 'one', b = 'nowhere'}\n",
        ":5: targets.toy.named: 'nowhere' does not exist (BB-R015)",
    ),
    (
        "elements of another type",
        HEAD + "targets.toy.profiles = ['box', 1]\n",
        ":4: targets.toy.profiles[1]: must be text, not an integer (BB-R009)",
    ),
    (
        "option with an element of another type",
        HEAD + "[targets.toy]\norder = [\n'a',\n1]\n",
        ":7: targets.toy.order[1]: must be text, not an integer (BB-R009)",
    ),
    (
        "option of another type",
        HEAD + "[targets.toy]\nlimit = '7'\n",
        ":5: targets.toy.limit: must be an integer, not text (BB-R009)",
    ),
    # values
    (
        "entry",
        HEAD + "targets.toy.entry = 'chained'\n",
        ":4: targets.toy.entry: 'chained': must be 'insert', 'native' or 'chain' (BB-R010)",
    ),
    ("width", HEAD + "payload.width = 16\n", ":4: payload.width: 16: must be 32 or 64 (BB-R010)"),
    ("budget", HEAD + "boot.budget = 0\n", ":4: boot.budget: 0: must be above 0 (BB-R010)"),
    (
        "timeout",
        HEAD + "boot.timeout = inf\n",
        ":4: boot.timeout: inf: must be a finite number (BB-R010)",
    ),
    ("no timeout", HEAD + "boot.timeout = 0\n", ":4: boot.timeout: 0: must be above 0 (BB-R010)"),
    (
        "no console text",
        HEAD + "expect.console = ''\n",
        ":4: expect.console: '': must not be empty (BB-R010)",
    ),
    (
        "options that contradict",
        HEAD + "[targets.toy]\nlimit = 101\n",
        ":5: targets.toy.limit: is above 100 (BB-R010)",
    ),
    (
        "options that contradict each other",
        HEAD + "[targets.toy]\nlimit = 50\nmode = 'slow'\n",
        f":4: targets.toy: slow and limit do not go together{'.' * 567} … (BB-R010)",
    ),
    # plugins
    ("target", HEAD + "[targets.tn]\n", ":4: targets.tn: no target 'tn' is installed (BB-R011)"),
    (
        "guest",
        HEAD + "payload.guest = 'Linux'\n",
        ":4: payload.guest: no guest 'Linux' is installed (BB-R012)",
    ),
    (
        "profile",
        HEAD + "targets.toy.profiles = ['box', 'bax']\n",
        ":4: targets.toy.profiles[1]: no profile 'bax' of 'toy' is installed (BB-R013)",
    ),
    (
        "profile of another target",
        HEAD + "targets.toy.profiles = ['can']\n",
        ":4: targets.toy.profiles[0]: 'can' is a profile of 'tin', not of 'toy' (BB-R014)",
    ),
    (
        "the same in full",
        HEAD + "targets.toy.profiles = ['tin@can']\n",
        ":4: targets.toy.profiles[0]: 'tin@can' is a profile of 'tin', not of 'toy' (BB-R014)",
    ),
    (
        "profiles empty",
        HEAD + "targets.toy.profiles = []\n",
        ":4: targets.toy.profiles: no profile is named (BB-R021)",
    ),
    (
        "no profile installed",
        HEAD + "[targets.bare]\n",
        ":4: targets.bare: no profile of the target 'bare' is installed (BB-R021)",
    ),
    (
        "profile twice",
        HEAD + "targets.toy.profiles = ['box', 'toy@box']\n",
        ":4: targets.toy.profiles[1]: 'toy@box' is named already (BB-R022)",
    ),
    (
        "unread option",
        HEAD + "[targets.toy]\nlimti = 1\n",
        ":5: targets.toy.limti: this target has no such option (BB-R018)",
    ),
    (
        "option of an optionless target",
        HEAD[: HEAD.index("targets")] + "[targets.tin.x]\ny = 1\n",
        ":3: targets.tin.x: this target has no such option (BB-R018)",
    ),
    # files
    ("no kernel", HEAD.replace("kernel", "nope"), ":2: payload.path: 'nope' does not exist (BB-R015)"),
    ("kernel a folder", HEAD.replace("kernel", "."), ":2: payload.path: '.' is no regular file (BB-R015)"),
    (
        "no module",
        HEAD + "payload.modules = [{path = 'one/x'}]\n",
        ":4: payload.modules[0].path: 'one/x' does not exist (BB-R015)",
    ),
    (
        "no symbols",
        HEAD + "payload.symbols = 'System.map'\n",
        ":4: payload.symbols: 'System.map' does not exist (BB-R015)",
    ),
    (
        "module twice",
        HEAD + "payload.modules = [{path = 'one'}, {path = './one'}]\n",
        ":4: payload.modules[1].path: './one' is module 0 already (BB-R016)",
    ),
    # targets together
    ("no target", HEAD[: HEAD.index("targets")], ": no target is asked for (BB-R017)"),
    ("empty targets", "api = 1\npayload.path = 'kernel'\n[targets]\n", ": no target is asked for (BB-R017)"),
    (
        "combine one",
        HEAD + "output.combine = ['tin']\n",
        ":4: output.combine: one target alone cannot be combined (BB-R019)",
    ),
    (
        "combine another",
        HEAD + "output.combine = ['tin', 'toy']\n",
        ":4: output.combine[1]: 'toy' is no target of this recipe (BB-R019)",
    ),
    (
        "combine twice",
        HEAD + "output.combine = [\n'tin',\n'tin']\n",
        ":6: output.combine[1]: 'tin' is listed already (BB-R019)",
    ),
    # scalars
    ("size 0", HEAD + "boot.memory = 0\n", ":4: boot.memory: 0: a size must be above 0 (BB-R024)"),
    (
        "size in MB",
        HEAD + "boot.memory = '64MB'\n",
        ":4: boot.memory: '64MB': the unit 'MB' may mean 1000 or 1024; write MiB (BB-R024)",
    ),
    (
        "address too large",
        HEAD + "payload.startup = '0x10000000000000000'\n",
        ":4: payload.startup: '0x10000000000000000': an address must be at least 0 and fit 64 bits (BB-R024)",
    ),
    # text
    (
        "NUL",
        HEAD + 'payload.cmdline = "a\\u0000b"\n',
        ":4: payload.cmdline: 'a\\x00b': holds a NUL or a line break (BB-R025)",
    ),
    (
        "line break",
        HEAD + 'payload.cmdline = """a\nb"""\n',
        ":4: payload.cmdline: 'a\\nb': holds a NUL or a line break (BB-R025)",
    ),
    (
        "NUL in a path",
        HEAD.replace("kernel", "a\\u0000"),
        ":2: payload.path: 'a\\x00': holds a NUL or a line break (BB-R025)",
    ),
    # the text itself
    ("no TOML", "api = \n", ":1: Invalid value (column 7) (BB-R004)"),
    (
        "unfinished",
        HEAD + "[boot",
        ":4: Expected ']' at the end of a table declaration (end of the file) (BB-R004)",
    ),
    ("key twice", HEAD + "api = 1\n", ":4: Cannot overwrite a value (column 8) (BB-R004)"),
    ("nested deeply", HEAD + "x = " + "[" * 33 + "]" * 33, ":4: nested more than 32 deep (BB-R005)"),
    ("many parts", HEAD + "a." * 32 + "a = 1", ":4: nested more than 32 deep (BB-R005)"),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_broken_recipe_has_exactly_this_problem(problems: Problems, text: str, expected: str) -> None:
    assert problems(text) == [f"r.toml{expected}"]


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = """\
api = 1
colour = "red"
[payload]
path = "nope"
guest = "lnux"
width = "64"
[[payload.modules]]
cmdline = 3
[targets.toy]
profiles = ["can", "bx"]
mode = "slwo"
speed = 1
[targets.tyo]
[output]
combine = ["toy"]
[boot]
memory = "lots"
"""
    assert [problem.rsplit("(", 1)[1][:-1] + " " + problem.split(": ")[1] for problem in problems(text)] == [
        "BB-R007 colour",
        "BB-R015 payload.path",
        "BB-R012 payload.guest",
        "BB-R009 payload.width",
        "BB-R008 payload.modules[0].path",
        "BB-R009 payload.modules[0].cmdline",
        "BB-R014 targets.toy.profiles[0]",
        "BB-R013 targets.toy.profiles[1]",
        "BB-R010 targets.toy.mode",
        "BB-R018 targets.toy.speed",
        "BB-R011 targets.tyo",
        "BB-R019 output.combine",
        "BB-R024 boot.memory",
    ]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (HEAD + "[boot]\nmemry = 1\n", "did you mean 'memory'?"),
        (HEAD + "[targets.toy]\nlimti = 1\n", "did you mean 'limit'?"),
        (HEAD + "[targets.toy]\nentyr = 1\n", "did you mean 'entry'?"),
        (HEAD + "[targets.tpy]\n", "did you mean 'toy'?"),
        (HEAD + "[boot]\nx = 1\n", "known here: budget, exact, level, memory, timeout"),
        (HEAD + "boot.budget = 0\n", "give a number within these bounds, or leave the key out"),
        (HEAD + "expect.console = ''\n", "write something, or leave the key out"),
        (HEAD + "output.directory = ''\n", "write something, or leave the key out"),
        (HEAD + "output.name = 'a/b'\n", "give a name alone; its folder is `output.directory`"),
        (
            HEAD + "payload.startup = ''\n",
            "write a symbol such as startup_64, or an address such as 0x1000000",
        ),
    ],
)
def test_the_remedy_fits_the_value(
    problems: Problems, folder: Path, host: Host, text: str, remedy: str
) -> None:
    problems(text)
    with pytest.raises(RecipeError) as error:
        read_all([Path("r.toml")], host)
    assert str(error.value).endswith(f"; {remedy}")


def test_a_plugin_that_does_not_load_is_a_plugins_fault(problems: Problems, host: Host, folder: Path) -> None:
    text = HEAD + "[targets.broken]\n"
    assert problems(text) == ["target.broken: x:y of z 1 does not load: KeyError (BB-P004)"]
    with pytest.raises(PluginError):
        read_all([Path("r.toml")], host)
    assert len(problems(text + "[what]\n")) == 2
    with pytest.raises(RecipeError):
        read_all([Path("r.toml")], host)


def test_problems_of_several_recipes_are_reported_together(folder: Path, host: Host) -> None:
    for name in "ab":
        (folder / f"{name}.toml").write_text(HEAD + "[what]\n")
    with pytest.raises(RecipeError) as error:
        read_all([Path("a.toml"), Path("b.toml"), Path("c.toml")], host)
    assert [(p.rule.id, p.where) for p in error.value.problems] == [
        ("BB-R007", "a.toml:4: what"),
        ("BB-R007", "b.toml:4: what"),
        ("BB-R001", "c.toml"),
    ]


def test_two_recipes_may_not_write_one_image(folder: Path, host: Host) -> None:
    (folder / "a.toml").write_text(HEAD)
    (folder / "b.toml").write_text(HEAD.replace("tin", "toy"))
    assert len(read_all([Path("a.toml"), Path("b.toml")], host)) == 2
    with pytest.raises(RecipeError) as error:
        read_all([Path("a.toml"), folder / "a.toml"], host)
    (problem,) = error.value.problems
    assert (problem.rule.id, problem.where) == ("BB-R023", f"{folder}/out/kernel-tin")
    assert problem.message == f"a.toml and {folder}/a.toml would each write this image"
    assert error.value.exit_code == ExitCode.RECIPE


def test_an_override_that_cannot_be_applied_is_refused(problems: Problems) -> None:
    assert problems(HEAD, Overrides(settings=("nothing",))) == [
        "--set nothing: not of the form KEY=VALUE (BB-R020)"
    ]


def test_a_new_example_overwrites_nothing(folder: Path) -> None:
    with pytest.raises(OutputError) as error:
        copy_example("hello", folder)
    assert [problem.rule.id for problem in error.value.problems] == ["BB-R026"]
    assert sorted(path.name for path in folder.iterdir()) == ["kernel", "one", "two"]


#: Rules that the cases above cannot break, with the test that does.
ELSEWHERE = {
    "BB-R001": "test_hostile_recipes.py",
    "BB-R002": "test_hostile_recipes.py",
    "BB-R003": "test_hostile_recipes.py",
    "BB-R020": "test_an_override_that_cannot_be_applied_is_refused",
    "BB-R023": "test_two_recipes_may_not_write_one_image",
    "BB-R026": "test_a_new_example_overwrites_nothing",
}


def test_every_rule_is_broken_by_a_test() -> None:
    broken = {problem.rsplit("(", 1)[1][:-1] for _, _, problem in CASES}
    assert broken | ELSEWHERE.keys() == {rule.id for rule in RULES}
    assert not broken & ELSEWHERE.keys()
    assert [rule.id for rule in RULES] == [f"BB-R{number:03}" for number in range(1, len(RULES) + 1)]
