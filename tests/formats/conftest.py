"""A tiny valid ELF kernel of either class, of which tests break one thing at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tiny_elf import TinyElf, make, note


@pytest.fixture(params=[32, 64], ids=["elf32", "elf64"])
def elf(request: pytest.FixtureRequest) -> TinyElf:
    """A valid ELF kernel of either class."""
    return make(request.param)


@pytest.fixture
def elf64() -> TinyElf:
    """A valid ELF64 kernel."""
    return make(64)


@pytest.fixture
def make_note() -> Callable[..., bytes]:
    """`make_note(owner, type, desc, align=4)`: the bytes of one note."""
    return note
