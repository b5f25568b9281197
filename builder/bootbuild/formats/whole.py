"""What happens when another program cuts a file short that is being read: one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bootbuild.errors import InputError, Problem
from bootbuild.formats import rules
from bootbuild.model.content import CutShort


@contextmanager
def whole_files() -> Iterator[None]:
    """Where a file that loses bytes while it is read is an InputError (BB-E031)."""
    try:
        yield
    except CutShort as error:
        text = "became shorter while it was read"
        remedy = "run it again when no other program writes the file"
        raise InputError(Problem(rules.UNREADABLE, str(error), text, remedy)) from None
