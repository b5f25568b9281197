"""SBAT: by which shim revokes what has a known hole (shim, SBAT.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bootbuild.api import Problem, RefusedError
from bootbuild_efi.rules import BAD_SBAT

GENERATION = 1  #: of the stub: to be raised with each hole in it that is closed
_OWN = (
    ("sbat", "1", "SBAT Version", "sbat", "1", "https://github.com/rhboot/shim/blob/main/SBAT.md"),
    ("bootbuild.efi", str(GENERATION), "bootbuild", "bootbuild", "1", "docs/efi.md"),
)


def table(path: Path | None) -> bytes:
    """Bytes of section .sbat: bootbuild's own rows, or those of a file. Raises RefusedError (BB-L506)."""
    if path is None:
        return "".join(",".join(row) + "\n" for row in _OWN).encode()
    data = path.read_bytes()
    problems = [Problem(BAD_SBAT, str(path), text) for text in faults(data)]
    if problems:
        raise RefusedError(problems)
    return data


def faults(data: bytes) -> Iterator[str]:
    """What is wrong with a table, in words."""
    if not data.isascii() or b"\0" in data:
        yield "it holds a NUL, or more than ASCII"
        return
    if not data.endswith(b"\n"):
        yield "its last row does not end with a newline"
    rows = [line.split(",") for line in re.split(r"[\r\n]+", data.decode()) if line]  # it knows no quotes
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        if len(row) != 6:
            yield f"row {number} has {len(row)} fields, not 6"
            continue
        if not all(row):
            yield f"row {number} has an empty field"
        component, generation = row[:2]
        if not (generation.isdigit() and int(generation) >= 1):
            yield f"row {number}: {generation!r} is no generation"
        if component in seen:
            yield f"row {number}: component {component} is there twice"
        seen.add(component)
    if not rows or rows[0][:1] != ["sbat"]:
        yield "its first row is not that of component sbat"
