"""Symbols by name: tables that are read at the first lookup, that of ELF, and a System.map."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.model.content import Content
from bootbuild.model.span import Span

MAX_SYMBOLS = 2 << 20  #: a Debian kernel has 200 thousand, one with every option less than a million
MAX_STRINGS = 128 << 20  #: bytes of their names
MAX_NAME = 4096  #: bytes of one name; mangled Rust and C++ names reach some hundreds
MAX_SYSTEM_MAP = 64 << 20  #: bytes; Linux with every option has about 40 MiB
MAX_PROBLEMS = 10  #: bad lines named one by one

SHN_UNDEF = 0
STB_LOCAL = 0
STT_SECTION, STT_FILE = 3, 4


class LazySymbols(Mapping[str, int]):
    """Name → address, read when it is first asked."""

    origin = ""  #: where the symbols come from, in a word

    def __init__(self) -> None:
        self._read: dict[str, int] | None = None

    def _symbols(self) -> dict[str, int]:
        if self._read is None:
            self._read = self._read_table()
        return self._read

    def _read_table(self) -> dict[str, int]:
        raise NotImplementedError

    def __getitem__(self, name: str) -> int:
        return self._symbols()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols())

    def __len__(self) -> int:
        return len(self._symbols())


class SymbolTable(LazySymbols):
    """Name → st_value over .symtab. Of several symbols of one name a global wins, else the first.

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

    def _read_table(self) -> dict[str, int]:
        strings = self._content.read(self._strings.start, self._strings.size)
        wide = self._entry.size == 24  # Elf64_Sym orders its fields differently from Elf32_Sym
        found: dict[str, int] = {}
        local: dict[str, int] = {}
        # Names may overlap in the strings: without a budget a small file could ask for all memory.
        budget = 2 * MAX_STRINGS
        for fields in self._entry.iter_unpack(self._content.read(self._table.start, self._table.size)):
            if wide:
                name_at, info, _, section, value, _ = fields
            else:
                name_at, value, _, info, _, section = fields
            if section == SHN_UNDEF or not name_at or info & 15 in (STT_SECTION, STT_FILE):
                continue
            end = strings.find(b"\0", name_at, name_at + MAX_NAME)
            if end <= name_at or budget < 0:
                continue
            budget -= end - name_at
            name = strings[name_at:end].decode("utf-8", "surrogateescape")
            (local if info >> 4 == STB_LOCAL else found).setdefault(name, value)
        return {**local, **found}


def origin(symbols: Mapping[str, int]) -> str:
    """Where an image's symbols come from: ".symtab" or "kallsyms"; "" when there are none."""
    return symbols.origin if isinstance(symbols, LazySymbols) and symbols else ""


_LINE = re.compile(rb"([0-9a-fA-F]{8}|[0-9a-fA-F]{16}) ([A-Za-z?]) (\S{1,4096})\n?")
GLOBAL_TYPES = frozenset(b"ABCDGRSTVWu")  #: letters of nm(1)


def read_system_map(content: Content, name: str) -> Mapping[str, int]:
    """Name → address of a System.map (`nm -n`). Of several of one name a global wins, else the first.

    Raises InputError (BB-E017) with the bad lines.
    """
    if content.size > MAX_SYSTEM_MAP:
        raise InputError(Problem(rules.SYSTEM_MAP, name, f"{content.size} bytes; at most 64 MiB are read"))
    found: dict[str, int] = {}
    local: dict[str, int] = {}
    bad: list[Problem] = []
    for number, line in enumerate(io.BytesIO(content.read(0, content.size)), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            bad.append(Problem(rules.SYSTEM_MAP, f"{name}:{number}", f"not a symbol: {line[:60]!r}"))
            if len(bad) == MAX_PROBLEMS:
                break
            continue
        address, kind, symbol = match.groups()
        where = found if kind[0] in GLOBAL_TYPES else local
        where.setdefault(symbol.decode("utf-8", "surrogateescape"), int(address, 16))
    if not content.size:
        bad.append(Problem(rules.SYSTEM_MAP, name, "empty"))
    if bad:
        raise InputError(bad)
    return {**local, **found}
