"""An aligned text table that fits a terminal, and text made safe for one."""

from __future__ import annotations

from collections.abc import Sequence

BOLD, RED, GREEN, YELLOW, RESET = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
NARROWEST = 12  #: columns that a shortened cell keeps


def printable(text: str) -> str:
    """One line without what could move a terminal's cursor: guests and files may say anything."""
    return "".join(c if c.isprintable() else "\\n" if c == "\n" else f"\\x{ord(c):02x}" for c in text)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    shorten: int = 0,
    right: Sequence[int] = (),
) -> list[list[str]]:
    """Cells padded to their columns' widths, `head` first; join them with two spaces.

    Where a row is wider than `width`, the cells of column `shorten` lose their beginnings. Columns in
    `right` are aligned to the right.
    """
    lines = [[printable(cell) for cell in row] for row in (head, *rows)]
    columns = [max(len(line[i]) for line in lines) for i in range(len(head))]
    excess = sum(columns) + 2 * (len(columns) - 1) - width if width is not None else 0
    if excess > 0:
        columns[shorten] = max(min(columns[shorten], NARROWEST), columns[shorten] - excess)
        for line in lines:
            if len(line[shorten]) > columns[shorten]:
                line[shorten] = "…" + line[shorten][len(line[shorten]) - columns[shorten] + 1 :]
    last = len(head) - 1
    return [
        [
            cell.rjust(columns[i]) if i in right else cell if i == last else cell.ljust(columns[i])
            for i, cell in enumerate(line)
        ]
        for line in lines
    ]


def plain(cells: Sequence[Sequence[str]]) -> str:
    """The lines of a padded table."""
    return "".join("  ".join(line).rstrip() + "\n" for line in cells)
