"""Every key of a TOML text has its line."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootbuild.recipe.positions import MAX_DEPTH, Key, TooDeepError, key_lines

DOCUMENT = '''\
# comment with [brackets] and = signs
api = 1   # another
[payload]
"quoted key" = "a \\" ] string # no comment"
'literal.key'.inner = 'C:\\path'
many = [1, 2, # comment ]
  [3, "]"], {a = {b.c = 1}, d = """
multi ""quoted"" \\
line"""}, \'\'\'
it''s\'\'\'
]
when = 1979-05-27 07:32:00
late = 07:32:00
[[payload.modules]]
path = "one"
[[payload.modules]]
path = "two"
[payload.modules.deep]
x = -1.5e+3
[ targets . "a.b" ]
y = """ends in two quotes"""""
z = true
[[payload.modules]]
'''

LINES: dict[Key, int] = {
    ("api",): 2,
    ("payload",): 3,
    ("payload", "quoted key"): 4,
    ("payload", "literal.key"): 5,
    ("payload", "literal.key", "inner"): 5,
    ("payload", "many"): 6,
    ("payload", "many", 0): 6,
    ("payload", "many", 1): 6,
    ("payload", "many", 2): 7,
    ("payload", "many", 2, 0): 7,
    ("payload", "many", 2, 1): 7,
    ("payload", "many", 3): 7,
    ("payload", "many", 3, "a"): 7,
    ("payload", "many", 3, "a", "b"): 7,
    ("payload", "many", 3, "a", "b", "c"): 7,
    ("payload", "many", 3, "d"): 7,
    ("payload", "many", 4): 9,
    ("payload", "when"): 12,
    ("payload", "late"): 13,
    ("payload", "modules"): 14,
    ("payload", "modules", 0): 14,
    ("payload", "modules", 0, "path"): 15,
    ("payload", "modules", 1): 16,
    ("payload", "modules", 1, "path"): 17,
    ("payload", "modules", 1, "deep"): 18,
    ("payload", "modules", 1, "deep", "x"): 19,
    ("targets",): 20,
    ("targets", "a.b"): 20,
    ("targets", "a.b", "y"): 21,
    ("targets", "a.b", "z"): 22,
    ("payload", "modules", 2): 23,
}


def keys(tree: Any, at: Key = ()) -> set[Key]:
    """Every key and index in a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return set().union(*({(*at, key)} | keys(value, (*at, key)) for key, value in inner))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_key_is_where_it_was_written(newline: str) -> None:
    text = DOCUMENT.replace("\n", newline)
    assert key_lines(text) == LINES
    assert keys(tomllib.loads(text)) == LINES.keys()


@pytest.mark.parametrize(
    "broken",
    [
        "x",
        "x =",
        "x = [1",
        "x = {a = 1",
        'x = "a',
        "[t",
        "[[t]",
        "x = 1 y = 2",
        'x = """',
        "= 1",
        '"\\q" = 1',
    ],
)
def test_of_invalid_toml_the_keys_before_the_mistake_are_known(broken: str) -> None:
    lines = key_lines("a = 1\nb = 2\n" + broken)
    assert lines[("a",)] == 1
    assert lines[("b",)] == 2
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads("a = 1\nb = 2\n" + broken)


def nested(depth: int) -> str:
    return "a = 1\nx = " + "[" * depth + "]" * depth


def test_depth_is_bounded() -> None:
    assert key_lines(nested(MAX_DEPTH))[("x",)] == 2
    assert key_lines(".".join("a" * MAX_DEPTH) + " = 1")
    with pytest.raises(TooDeepError) as error:
        key_lines(nested(MAX_DEPTH + 1))
    assert error.value.args == (2,)
    with pytest.raises(TooDeepError):
        key_lines(".".join("a" * (MAX_DEPTH + 1)) + " = 1")


KEYS = st.sampled_from(["a", "b-1", '"c d"', "'e.f'", '"\\u00e9"', "a.b", "x . 'y'"])
SCALARS = st.sampled_from(
    [
        "1",
        "-0x1f",
        "1_0.5e-3",
        "true",
        "nan",
        '"s"',
        "'l'",
        '"a\\\\"',
        '"""m\n"x"\n"""',
        "'''n\n'''",
        "2000-01-01 00:00:00Z",
    ]
)
SPACE = st.sampled_from(["", " ", "\n", " # ]}\n  "])


def arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.lists(inner, max_size=3), SPACE).map(
        lambda p: f"[{p[1]}{(p[1] + ',' + p[1]).join(p[0])}{p[1]}]"
    )


def tables(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(
        st.tuples(st.sampled_from(["a", '"b c"', "d.e"]), inner), max_size=3, unique_by=lambda p: p[0]
    )
    return pairs.map(lambda p: "{" + ", ".join(f"{key} = {value}" for key, value in p) + "}")


VALUES = st.recursive(SCALARS, lambda inner: arrays(inner) | tables(inner), max_leaves=6)
LINES_OF_TOML = st.one_of(
    st.tuples(KEYS, VALUES).map(lambda p: f"{p[0]} = {p[1]}"),
    KEYS.map(lambda key: f"[{key}]"),
    KEYS.map(lambda key: f"[[ {key} ]] # c"),
    st.just(""),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES_OF_TOML, max_size=8).map("\n".join))
def test_whatever_tomllib_reads_has_its_keys_here(text: str) -> None:
    lines = key_lines(text)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert keys(tree) == lines.keys()
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab=[]{}\".'#\\\n\r ,1", max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    key_lines(text)
