"""Where each key of a TOML file stands: the line numbers that `tomllib` does not give.

This reads ahead of `tomllib`, which alone decides what is valid: on anything that is not TOML it stops and
returns what it has. It also refuses what would make a parser slow or overflow its stack: deep nesting and
keys of very many parts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

Key = tuple[str | int, ...]  #: ("payload", "modules", 0, "path")

MAX_DEPTH = 32  #: of nested arrays and inline tables, and of parts of one key

_SPACE = re.compile(r"[ \t]*+")
_FILL = re.compile(r"(?:[ \t\r\n]|#[^\n]*+)*+")  # between the elements of an array
_BARE = re.compile(r"[A-Za-z0-9_-]++")
_STRING = re.compile(
    r'"""(?s:[^"\\]|\\.|"{1,2}(?!"))*+""""{0,2}'
    r"|'''(?s:[^']|'{1,2}(?!'))*+''''{0,2}"
    r'|"(?:[^"\\\n]|\\[^\n])*+"'
    r"|'[^'\n]*+'"
)
_SCALAR = re.compile(r"[^\s,\[\]{}#\"'=][^,\[\]{}#\"'=\r\n]*+")
_NEWLINE = re.compile(r"\r?\n|\Z")
_COMMENT = re.compile(r"#[^\n]*+")


class TooDeepError(Exception):
    """Nesting, or the parts of one key, beyond MAX_DEPTH; the argument is the line."""


class _NotTomlError(Exception):
    """`tomllib` will say what is wrong."""


@dataclass
class _Scanner:
    text: str
    at: int = 0
    line: int = 1
    counted: int = 0  #: offset up to which `line` has counted newlines
    lines: dict[Key, int] = field(default_factory=dict)
    lengths: dict[Key, int] = field(default_factory=dict)  #: of arrays of tables

    def document(self) -> None:
        """Expressions, one a line, until the end of the text."""
        table: Key = ()
        while True:
            self.take(_FILL)
            if self.at == len(self.text):
                return
            if self.text.startswith("[", self.at):
                table = self.header()
            else:
                self.pair(table, 0)
            self.take(_SPACE)
            self.take(_COMMENT)
            self.need(_NEWLINE)

    def header(self) -> Key:
        """`[table]` or `[[array of tables]]`: the key that the following pairs are under."""
        line = self.here()
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        parts = self.key()
        self.need(re.compile(r"\]\]" if array else r"\]"))
        key: Key = ()
        for index, part in enumerate(parts):
            key += (part,)
            last = index == len(parts) - 1
            if key in self.lengths and not (last and array):
                key += (self.lengths[key] - 1,)
            self.lines.setdefault(key, line)
        if array:
            self.lengths[key] = self.lengths.get(key, 0) + 1
            key += (self.lengths[key] - 1,)
        self.lines[key] = line
        return key

    def pair(self, table: Key, depth: int) -> None:
        """`key = value`, at `table`."""
        line = self.here()
        key = table
        for part in self.key():
            key += (part,)
            self.lines.setdefault(key, line)
        self.need(re.compile(r"="))
        self.take(_SPACE)
        self.value(key, depth)

    def key(self) -> list[str]:
        """The parts of a dotted key, with the space around it."""
        parts: list[str] = []
        while True:
            self.take(_SPACE)
            raw = self.need(_BARE if self.text[self.at : self.at + 1] not in ("'", '"') else _STRING)
            parts.append(_unquoted(raw) if raw[0] in "'\"" else raw)
            if len(parts) > MAX_DEPTH:
                raise TooDeepError(self.here())
            self.take(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def value(self, key: Key, depth: int) -> None:
        """One value; elements and inner keys are noted too."""
        first = self.text[self.at : self.at + 1]
        if first in ("[", "{"):
            if depth == MAX_DEPTH:
                raise TooDeepError(self.here())
            self.at += 1
            self.several(key, depth + 1, "]" if first == "[" else "}")
        else:
            self.need(_STRING if first in ("'", '"') else _SCALAR)

    def several(self, key: Key, depth: int, end: str) -> None:
        """The inside of an array or an inline table."""
        count = 0
        while True:
            self.take(_FILL)
            if self.text.startswith(end, self.at):
                self.at += 1
                return
            if end == "}":
                self.pair(key, depth)
            else:
                self.lines[(*key, count)] = self.here()
                self.value((*key, count), depth)
            count += 1
            self.take(_FILL)
            if self.text.startswith(",", self.at):
                self.at += 1
            elif not self.text.startswith(end, self.at):
                raise _NotTomlError

    def here(self) -> int:
        """The line number of the current offset."""
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line

    def take(self, pattern: re.Pattern[str]) -> None:
        """Pass over what `pattern` matches here, if anything."""
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def need(self, pattern: re.Pattern[str]) -> str:
        """Pass over what `pattern` must match here."""
        match = pattern.match(self.text, self.at)
        if match is None:
            raise _NotTomlError
        self.at = match.end()
        return match[0]


def _unquoted(raw: str) -> str:
    try:
        value = tomllib.loads(f"k = {raw}")["k"]
    except tomllib.TOMLDecodeError:
        raise _NotTomlError from None
    return str(value)


def key_lines(text: str) -> Mapping[Key, int]:
    """The line (from 1) on which each key, table and array element of a TOML text first stands.

    Of invalid TOML: those before the mistake. Raises TooDeepError.
    """
    scanner = _Scanner(text)
    try:
        scanner.document()
    except _NotTomlError:
        pass
    return scanner.lines
