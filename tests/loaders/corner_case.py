"""One file at an edge of what loaders take, and how the row of a table says what each of them does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from broken_file import Broken
from corner_kernels import START
from tiny_elf import HIGH

Said = tuple[str, str, int | None]  #: verdict, rule or "", entry or None

#: The loader model and the protocol that each cell of a row is about.
COLUMNS = (
    ("xen-libelf", "pvh"),
    ("xen-libelf", "xen-pv"),
    ("xen-xl", "pvh"),
    ("xen-xl", "xen-pv"),
    ("qemu", "pvh"),
    ("linux-loader", "pvh"),
    ("firecracker", "pvh"),
    ("cloud-hypervisor", "pvh"),
    ("grub-file", "xen-pv"),
)
_KINDS = {"": "refuse", "ok": "accept", "-": "ignore", "!": "crash", "~": "wild"}
_MEANT = {"pvh": START, "xen-pv": HIGH[64] + START}
_CELL = re.compile(r"(ok|[-!~]?)(:?L\d{3})?(?:@(0x[0-9a-f]+|\?))?")


def read_cell(text: str) -> tuple[str, str, str]:
    """Verdict, rule and what follows the `@` of a cell of any table."""
    cell = _CELL.fullmatch(text)
    assert cell is not None, text
    return _KINDS[cell[1]], "BB-" + cell[2].lstrip(":") if cell[2] else "", cell[3] or ""


@dataclass(frozen=True)
class Case:
    """One file, and what every loader says to it.

    A cell of `row` is `ok`, or a rule without its BB-: a refusal, with `-` ignored, with `!` a crash, with
    `~` a wild jump. `ok:L116` is accepted by that rule. `@` says where it goes, if that is not where the
    file means it to.
    """

    name: str
    data: bytes = field(repr=False)
    row: str = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def said(self, model: str, boot: str) -> Said:
        """What that loader says, asked for that protocol."""
        verdict, rule, at = read_cell(self.row.split()[COLUMNS.index((model, boot))])
        if at:
            return verdict, rule, int(at, 16)
        return verdict, rule, _MEANT[boot] if verdict == "accept" and model != "grub-file" else None


@dataclass(frozen=True)
class BrokenCase:
    """One broken file, and what every loader says to it."""

    broken: Broken
    row: str = field(repr=False)
    base: ClassVar[bytes]  #: the good file

    def __str__(self) -> str:
        return self.broken.name

    def data(self, base: bytes = b"") -> bytes:
        """The file, made of `base`, else of `self.base`."""
        return self.broken.change(base or self.base)
