"""Symbols by name: tables that are read at the first lookup, that of ELF, and a System.map."""

from __future__ import annotations

import copy
import io
import re
import struct
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from typing import Self

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.model.content import Content
from bootbuild.model.span import Span

MAX_SYMBOLS = 2 << 20  #: a Debian kernel has 200 thousand, one with every option less than a million
MAX_STRINGS = 128 << 20  #: bytes of their names
MAX_NAME = 4096  #: bytes of one name; mangled Rust and C++ names reach some hundreds
MAX_SYSTEM_MAP = 64 << 20  #: bytes; Linux with every option has about 40 MiB
MAX_PLACES = 64  #: of one name in the strings, for a search without reading the whole table
MAX_SEARCHES = 8  #: names that are searched for one by one
MAX_PROBLEMS = 10  #: bad lines named one by one

Symbol = tuple[bytes, bool, int, bool]  #: name, whether it is global, value, whether that is absolute

SHN_UNDEF, SHN_ABS = 0, 0xFFF1
STB_LOCAL = 0
STT_SECTION, STT_FILE = 3, 4


class LazySymbols(Mapping[str, int]):
    """Name → address, read when it is first asked.

    A name that is looked up is searched for; only who wants all of them makes an object of each. Of several
    symbols of one name a global wins, else the first.
    """

    origin = ""  #: where the symbols come from, in a word

    def __init__(self, delta: int = 0) -> None:
        self._delta = delta
        self._read: dict[str, int] | None = None
        self._asked: dict[str, int | None] = {}

    def moved(self, delta: int) -> Self:
        """The symbols of the kernel moved by `delta` bytes: all but the absolute ones (SHN_ABS)."""
        other = copy.copy(self)
        LazySymbols.__init__(other, self._delta + delta)
        return other

    @abstractmethod
    def symbols(self, wanted: bytes | None) -> Iterable[Symbol]:
        """The symbols in the order of the table: those called `wanted` at least, all if it is None."""

    def __getitem__(self, name: str) -> int:
        if self._read is not None or (len(self._asked) == MAX_SEARCHES and name not in self._asked):
            return self._all()[name]
        if name not in self._asked:
            wanted = name.encode("utf-8", "surrogateescape")
            named = (symbol for symbol in self.symbols(wanted) if symbol[0] == wanted)
            found = _by_name(named, self._delta)
            self._asked[name] = found.get(name)
        value = self._asked[name]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, int]:
        if self._read is None:
            self._read = _by_name(self.symbols(None), self._delta)
        return self._read


def _by_name(symbols: Iterable[Symbol], delta: int) -> dict[str, int]:
    found: dict[str, int] = {}
    local: dict[str, int] = {}
    for name, is_global, value, absolute in symbols:
        place = value if absolute else value + delta
        (found if is_global else local).setdefault(name.decode("utf-8", "surrogateescape"), place)
    return {**local, **found}


class SymbolTable(LazySymbols):
    """Name → st_value over .symtab.

    `table` and `strings` are file ranges, known to lie inside the file and within the limits above.
    Undefined symbols, names of files and sections, and names that run out of the strings are left out.
    """

    origin = ".symtab"

    def __init__(self, content: Content, entry: struct.Struct, table: Span, strings: Span) -> None:
        super().__init__()
        self._content = content
        self._entry = entry
        self._table = table
        self._strings = strings

    def symbols(self, wanted: bytes | None) -> Iterator[Symbol]:
        strings = self._content.read(self._strings.start, self._strings.size)
        table = self._content.read(self._table.start, self._table.size)
        # Elf64_Sym orders its fields differently from Elf32_Sym
        pick = itemgetter(0, 1, 3, 4) if self._entry.size == 24 else itemgetter(0, 3, 5, 1)
        # Names may overlap in the strings: without a budget a small file could ask for all memory.
        budget = 2 * MAX_STRINGS
        for fields in self._entries(table, strings, wanted):
            name_at, info, section, value = pick(fields)
            if section == SHN_UNDEF or not name_at or info & 15 in (STT_SECTION, STT_FILE):
                continue
            end = strings.find(b"\0", name_at, name_at + MAX_NAME)
            if end <= name_at or budget < 0:
                continue
            budget -= end - name_at
            yield strings[name_at:end], info >> 4 != STB_LOCAL, value, section == SHN_ABS

    def _entries(self, table: bytes, strings: bytes, wanted: bytes | None) -> Iterator[tuple[int, ...]]:
        """The entries with that name, found by where it stands in the strings; all if that is in doubt."""
        if wanted:
            places = list(islice(_find_all(strings, wanted + b"\0"), MAX_PLACES + 1))
            if len(places) <= MAX_PLACES:
                size = self._entry.size
                found = {
                    at for p in places for at in _find_all(table, struct.pack("<I", p)) if at % size == 0
                }
                return (self._entry.unpack_from(table, at) for at in sorted(found))
        return self._entry.iter_unpack(table)


def _find_all(data: bytes, part: bytes) -> Iterator[int]:
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + 1)


def origin(symbols: Mapping[str, int]) -> str:
    """Where an image's symbols come from: ".symtab" or "kallsyms"; "" when there are none."""
    return symbols.origin if isinstance(symbols, LazySymbols) and symbols else ""


_LINE = re.compile(rb"([0-9a-fA-F]{8}|[0-9a-fA-F]{16}) ([A-Za-z?]) (\S{1,4096})(?:\n|\Z)")
_LINES = re.compile(rb"(?:(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{8}) [A-Za-z?] \S{1,4096}+(?:\n|\Z))++")
GLOBAL_TYPES = frozenset(b"ABCDGRSTVWu")  #: letters of nm(1)
ABSOLUTE_TYPES = frozenset(b"Aa")


class SystemMap(LazySymbols):
    """Name → address of a System.map of which every line is a symbol."""

    def __init__(self, text: bytes, delta: int) -> None:
        super().__init__(delta)
        self._text = text

    def symbols(self, wanted: bytes | None) -> Iterator[Symbol]:
        for match in _LINE.finditer(self._text) if wanted is None else self._lines(wanted):
            address, kind, symbol = match.groups()
            yield symbol, kind[0] in GLOBAL_TYPES, int(address, 16), kind[0] in ABSOLUTE_TYPES

    def _lines(self, wanted: bytes) -> Iterator[re.Match[bytes]]:
        for at in _find_all(self._text, b" " + wanted):
            match = _LINE.match(self._text, self._text.rfind(b"\n", 0, at) + 1)
            if match is not None:
                yield match


def read_system_map(content: Content, name: str, delta: int = 0) -> Mapping[str, int]:
    """Name → address of a System.map (`nm -n`). Of several of one name a global wins, else the first.

    The kernel was moved by `delta` bytes since nm saw it; types A and a are absolute and stay. Raises
    InputError (BB-E017) with the bad lines.
    """
    if content.size > MAX_SYSTEM_MAP:
        raise InputError(Problem(rules.SYSTEM_MAP, name, f"{content.size} bytes; at most 64 MiB are read"))
    if content.read(0, 4) == b"\x7fELF":
        text = "this is an ELF file, not a System.map"
        remedy = "leave it out for a kernel with symbols, else name the System.map of this very kernel"
        raise InputError(Problem(rules.SYSTEM_MAP, name, text, remedy))
    if not content.size:
        raise InputError(Problem(rules.SYSTEM_MAP, name, "empty"))
    lines = content.read(0, content.size)
    if _LINES.fullmatch(lines) is None:
        raise InputError(_bad_lines(lines, name))
    return SystemMap(lines, delta)


def _bad_lines(text: bytes, name: str) -> list[Problem]:
    """The first lines that are no symbols, and how many more there are."""
    bad: list[Problem] = []
    unsaid = 0
    for number, line in enumerate(io.BytesIO(text), 1):
        if _LINE.fullmatch(line) is not None:
            continue
        if len(bad) < MAX_PROBLEMS:
            bad.append(Problem(rules.SYSTEM_MAP, f"{name}:{number}", f"not a symbol: {line[:60]!r}"))
        else:
            unsaid += 1
    if unsaid:
        bad.append(Problem(rules.SYSTEM_MAP, name, f"{unsaid} more lines are not symbols"))
    return bad
