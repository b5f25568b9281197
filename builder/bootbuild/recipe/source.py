"""A recipe as a tree of plain values, every one of which knows where it stands. Bounded on any input."""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from bootbuild.errors import Problem, RecipeError
from bootbuild.host.nearest import shown
from bootbuild.model.rule import Rule
from bootbuild.recipe import rules
from bootbuild.recipe.positions import MAX_DEPTH, Key, TooDeepError, key_lines

LARGEST = 64 << 10  #: bytes
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class MalformedError(Exception):
    """A text is no TOML that is accepted: which rule, at which line (0: unknown), and why."""

    def __init__(self, rule: Rule, line: int, message: str) -> None:
        super().__init__(message)
        self.rule, self.line, self.message = rule, line, message


class Source(NamedTuple):
    """The tree of a recipe, overrides applied, with the places of its keys."""

    name: str  #: the recipe as the user named it
    tree: MutableMapping[str, Any]
    lines: Mapping[Key, int]
    overridden: MutableMapping[Key, str]  #: key → the argument that set it

    def line(self, key: Key) -> int:
        """The line of `key`, or of the nearest table around it; 0 if an argument set it or it is nowhere."""
        if self._argument(key) is not None:
            return 0
        return next((self.lines[part] for part in _prefixes(key) if part in self.lines), 0)

    def where(self, key: Key) -> str:
        """`file:line: key`, or the argument that set it."""
        argument = self._argument(key)
        if argument is not None:
            return argument
        line = self.line(key)
        return ": ".join(filter(None, (f"{self.name}:{line}" if line else self.name, spelled(key))))

    def _argument(self, key: Key) -> str | None:
        return next((self.overridden[part] for part in _prefixes(key) if part in self.overridden), None)


def _prefixes(key: Key) -> list[Key]:
    """`key` and the tables around it, from the inside out."""
    return [key[:length] for length in range(len(key), 0, -1)]


def spelled(key: Key) -> str:
    """`payload.modules[0].path`; parts that are not bare keys in quotes."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (
                part if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", part) else shown(part)
            )
    return text


def read_source(path: Path) -> Source:
    """Read and parse one recipe file. Raises RecipeError."""
    name = str(path)
    text = _text(path, name)
    try:
        tree, lines = parse(text)
    except MalformedError as error:
        where = f"{name}:{error.line}" if error.line else name
        raise RecipeError(Problem(error.rule, where, error.message)) from None
    return Source(name, tree, lines, {})


def parse(text: str) -> tuple[dict[str, Any], Mapping[Key, int]]:
    """The tree of a TOML text and the lines of its keys. Raises MalformedError."""
    try:
        lines = key_lines(text)
    except TooDeepError as error:
        raise MalformedError(rules.TOO_DEEP, error.args[0], f"nested more than {MAX_DEPTH} deep") from None
    try:
        return tomllib.loads(text), lines
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        at = _AT.search(said)
        last = text.count("\n") + 1
        line, column = (int(at[1]), f"column {at[2]}") if at and at[1] else (last, "end of the file")
        message = said[: at.start()] if at else said
        raise MalformedError(rules.NOT_TOML, line, f"{_clean(message)} ({column})") from None
    except ValueError:  # CPython converts no decimal integer of more than 4300 digits
        raise MalformedError(rules.NOT_TOML, 0, "an integer of thousands of digits") from None
    except RecursionError:
        raise MalformedError(rules.TOO_DEEP, 0, "nested too deeply") from None


def _text(path: Path, name: str) -> str:
    """The recipe's text; a folder, a pipe or a device is not opened, and no more than LARGEST is read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecipeError(Problem(rules.UNREADABLE, name, "not a regular file"))
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else None
        raise RecipeError(Problem(rules.UNREADABLE, name, said or "not a path")) from None
    if data.startswith(b"\x7fELF") or data[0x202:0x206] == b"HdrS":
        remedy = "name it in a recipe as `payload.path`, or try it with `bootbuild boot`"
        raise RecipeError(Problem(rules.NOT_TEXT, name, "this is a kernel, not a recipe", remedy))
    if len(data) > LARGEST:
        raise RecipeError(Problem(rules.TOO_LARGE, name, f"larger than {LARGEST >> 10} KiB"))
    if data.startswith(b"\xef\xbb\xbf"):
        raise RecipeError(Problem(rules.NOT_TEXT, name, "begins with a byte-order mark"))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte {data[error.start]:#04x} is not UTF-8"
        raise RecipeError(Problem(rules.NOT_TEXT, f"{name}:{line}", message)) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise RecipeError(Problem(rules.NOT_TEXT, f"{name}:{line}", "a NUL character"))
    return text


def _clean(message: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in message)[:200]
