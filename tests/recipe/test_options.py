"""A target's options may have any type that a recipe can write, and whatever is made of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from bootbuild.recipe.options import read_options


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


class Named(NamedTuple):
    file: Path
    size: int = 0


class Noisy:
    """Repeats the text that it is not made of, whatever that reads like."""

    def __init__(self, text: str) -> None:
        raise ValueError(f"Not {text}")


@dataclass(frozen=True)
class Part:
    file: Path | None = None
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Options:
    pair: tuple[int, int] = (0, 0)
    limits: Mapping[str, int] = field(default_factory=dict)
    either: int | str = 0
    since: date | None = None
    host: IPv4Address | None = None
    hosts: tuple[IPv4Address, ...] = ()
    file: Path | None = None
    speeds: frozenset[Literal["slow", "fast"]] = frozenset()
    speed: Speed = Speed.SLOW
    only: Literal["this"] = "this"
    ratio: float = 1.0
    deep: tuple[tuple[int, ...], ...] = ()
    call: Callable[[], None] | None = None
    odd: Path | IPv4Address | None = None
    files: frozenset[Path] = frozenset()
    named: Named | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
    ports: Mapping[int, str] = field(default_factory=dict)
    share: Fraction = Fraction(0)
    zone: ZoneInfo | None = None
    noisy: Noisy | None = None


def problems(keys: Mapping[str, Any], base: Path) -> list[tuple[str, tuple[str | int, ...], str]]:
    options, faults = read_options(Options, keys, ("targets", "x"), base)
    assert options is None
    assert faults
    return [(fault.rule.id, fault.key[2:], fault.message) for fault in faults]


def test_values_are_of_the_types_that_were_asked_for(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"")
    keys = {
        "pair": [1, 2],
        "limits": {"a": 1},
        "either": "text",
        "since": date(2026, 1, 2),
        "host": "127.0.0.1",
        "hosts": ["127.0.0.1", "127.0.0.2"],
        "file": "one",
        "speeds": ["slow"],
        "speed": "fast",
        "ratio": 2,
        "deep": [[1], []],
        "files": ["one"],
        "named": ["one", 2],
        "parts": {"a": {"file": "one"}},
        "ports": {"1": "x"},
        "share": "1/2",
    }
    options, faults = read_options(Options, keys, ("targets", "x"), tmp_path)
    assert faults == []
    assert options == Options(
        pair=(1, 2),
        limits={"a": 1},
        either="text",
        since=date(2026, 1, 2),
        host=IPv4Address("127.0.0.1"),
        hosts=(IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")),
        file=tmp_path / "one",
        speeds=frozenset({"slow"}),
        speed=Speed.FAST,
        ratio=2.0,
        deep=((1,), ()),
        files=frozenset({tmp_path / "one"}),
        named=Named(tmp_path / "one", 2),
        parts={"a": Part(tmp_path / "one")},
        ports={1: "x"},
        share=Fraction(1, 2),
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"pair": 1}, ("BB-R009", ("pair",), "must be an array, not an integer")),
        ({"pair": [1]}, ("BB-R010", ("pair",), "[1]: expected `array` of length 2, got 1")),
        ({"pair": [1, True]}, ("BB-R009", ("pair", 1), "must be an integer, not a boolean")),
        ({"limits": [1]}, ("BB-R009", ("limits",), "must be a table, not an array")),
        ({"limits": {"a": "b"}}, ("BB-R009", ("limits",), "must be an integer, not text")),
        ({"either": 1.5}, ("BB-R009", ("either",), "must be an integer or text, not a number")),
        ({"since": "soon"}, ("BB-R010", ("since",), "'soon': invalid RFC3339 encoded date")),
        ({"ratio": date(2026, 1, 2)}, ("BB-R009", ("ratio",), "must be a number, not a date or time")),
        (
            {"pair": datetime(2026, 1, 2, tzinfo=UTC)},
            ("BB-R009", ("pair",), "must be an array, not a date or time"),
        ),
        ({"limits": time(1, 2)}, ("BB-R009", ("limits",), "must be a table, not a date or time")),
        ({"only": "that"}, ("BB-R010", ("only",), "'that': must be 'this'")),
        ({"host": 1}, ("BB-R009", ("host",), "must be text, not an integer")),
        (
            {"hosts": ["127.0.0.1", "here"]},
            ("BB-R010", ("hosts", 1), "'here': expected 4 octets in 'here'"),
        ),
        ({"hosts": ["127.0.0.1", 1]}, ("BB-R009", ("hosts", 1), "must be text, not an integer")),
        ({"file": "none"}, ("BB-R015", ("file",), "'none' does not exist")),
        ({"file": True}, ("BB-R009", ("file",), "must be text, not a boolean")),
        ({"speeds": ["slow", "x"]}, ("BB-R010", ("speeds", 1), "'x': must be 'slow' or 'fast'")),
        ({"speed": "x"}, ("BB-R010", ("speed",), "'x': must be 'slow' or 'fast'")),
        ({"deep": [[1], [2, 1.5]]}, ("BB-R009", ("deep", 1, 1), "must be an integer, not a number")),
        ({"files": ["none"]}, ("BB-R015", ("files",), "'none' does not exist")),
        ({"named": ["none"]}, ("BB-R015", ("named",), "'none' does not exist")),
        ({"parts": {"a": {"file": "none"}}}, ("BB-R015", ("parts",), "'none' does not exist")),
        ({"ports": {"x": "y"}}, ("BB-R009", ("ports",), "a key must be an integer, not text")),
        ({"share": "1/0"}, ("BB-R010", ("share",), "'1/0': fraction(1, 0)")),
        (
            {"zone": "nowhere"},
            ("BB-R010", ("zone",), "'nowhere': no time zone found with key nowhere"),
        ),
        (
            {"only": "x - at `$[70]`"},
            ("BB-R010", ("only",), "'x - at `$[70]`': must be 'this'"),
        ),
        (
            {"speeds": ["slow", "x - at `$[70]"]},
            ("BB-R010", ("speeds", 1), "'x - at `$[70]': must be 'slow' or 'fast'"),
        ),
        (
            {"noisy": "x - at `$[70]`"},
            ("BB-R010", ("noisy",), "'x - at `$[70]`': not x - at `$[70]`"),
        ),
    ],
    ids=str,
)
def test_another_value_is_one_clear_problem(
    keys: Mapping[str, Any], problem: tuple[str, tuple[str | int, ...], str], tmp_path: Path
) -> None:
    found = problems(keys, tmp_path)
    assert [(rule, key, said.replace(str(tmp_path) + "/", "")) for rule, key, said in found] == [problem]


@pytest.mark.parametrize("key", ["call", "odd"])
def test_a_type_that_no_recipe_can_write_is_a_problem_of_the_key(key: str, tmp_path: Path) -> None:
    ((found, at, _),) = problems({key: "x"}, tmp_path)
    assert (found, at) == ("BB-R009", (key,))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = problems({"pair": 1, "ratio": "x", "file": "none", "other": 1}, tmp_path)
    assert sorted((rule, key) for rule, key, _ in found) == [
        ("BB-R009", ("pair",)),
        ("BB-R009", ("ratio",)),
        ("BB-R015", ("file",)),
        ("BB-R018", ("other",)),
    ]
