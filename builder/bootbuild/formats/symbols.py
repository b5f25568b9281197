"""Symbols by name: an ELF symbol table read at the first lookup, or a System.map."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.model.content import Content

MAX_TABLE = 256 << 20  #: bytes of entries or of names; a kernel with every option has about 40 MiB
MAX_SYSTEM_MAP = 64 << 20  #: bytes; Linux with every option has about 10 MiB
MAX_PROBLEMS = 10  #: bad lines named one by one

SHN_UNDEF = 0
STB_LOCAL = 0
STT_SECTION, STT_FILE = 3, 4


class SymbolTable(Mapping[str, int]):
    """Name → st_value over .symtab. Of several symbols of one name a global wins, else the first.

    `tables` are (offset, size, string table offset, string table size) in the file, already known to lie
    inside it. Names that run out of their string table are left out.
    """

    def __init__(
        self, content: Content, tables: tuple[tuple[int, int, int, int], ...], entry: struct.Struct
    ) -> None:
        self._content = content
        self._tables = tables
        self._entry = entry
        self._read: dict[str, int] | None = None

    def _symbols(self) -> dict[str, int]:
        if self._read is None:
            found: dict[str, int] = {}
            for table in self._tables:
                self._read_table(table, found)
            self._read = found
        return self._read

    def _read_table(self, table: tuple[int, int, int, int], found: dict[str, int]) -> None:
        offset, size, strings_offset, strings_size = table
        if max(size, strings_size) > MAX_TABLE:
            return
        strings = self._content.read(strings_offset, strings_size)
        wide = self._entry.size == 24  # Elf64_Sym orders its fields differently from Elf32_Sym
        local: dict[str, int] = {}
        for fields in self._entry.iter_unpack(self._content.read(offset, size)):
            if wide:
                name_at, info, _, section, value, _ = fields
            else:
                name_at, value, _, info, _, section = fields
            if section == SHN_UNDEF or not name_at or info & 15 in (STT_SECTION, STT_FILE):
                continue
            end = strings.find(b"\0", name_at)
            if end <= name_at:
                continue
            name = strings[name_at:end].decode("utf-8", "surrogateescape")
            (local if info >> 4 == STB_LOCAL else found).setdefault(name, value)
        for name, value in local.items():
            found.setdefault(name, value)

    def __getitem__(self, name: str) -> int:
        return self._symbols()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols())

    def __len__(self) -> int:
        return len(self._symbols())


_LINE = re.compile(rb"([0-9a-fA-F]{8}|[0-9a-fA-F]{16}) ([A-Za-z?]) (\S{1,1024})")
_GLOBAL = frozenset(b"ABCDGRSTVWu")


def read_system_map(content: Content, name: str) -> Mapping[str, int]:
    """Name → address of a System.map (`nm -n`). Of several of one name a global wins, else the first.

    Raises InputError (BB-E017) with the bad lines.
    """
    if content.size > MAX_SYSTEM_MAP:
        raise InputError(Problem(rules.SYSTEM_MAP, name, f"{content.size} bytes; at most 64 MiB are read"))
    found: dict[str, int] = {}
    local: dict[str, int] = {}
    bad: list[Problem] = []
    lines = content.read(0, content.size).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            bad.append(Problem(rules.SYSTEM_MAP, f"{name}:{number}", f"not a symbol: {line[:60]!r}"))
            if len(bad) == MAX_PROBLEMS:
                break
            continue
        address, kind, symbol = match.groups()
        where = found if kind[0] in _GLOBAL else local
        where.setdefault(symbol.decode("utf-8", "surrogateescape"), int(address, 16))
    if not lines:
        bad.append(Problem(rules.SYSTEM_MAP, name, "empty"))
    if bad:
        raise InputError(bad)
    return {**local, **found}
