"""What a command says: results on stdout, everything else on stderr, and what becomes of it there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

from bootbuild.errors import OutputError, Problem


class Command(click.Command):
    """A command whose `--help`, which click prints while it reads the arguments, is a result like others."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Raises OutputError when stdout does not take it."""
        with results():
            return super().make_context(*args, **kwargs)


def write(text: str) -> None:
    """Print a result. Raises OutputError when stdout does not take it, BrokenPipeError when nobody reads."""
    if sys.stdout is None:
        raise _untaken("it is closed")
    with results():
        click.echo(text, nl=False)


@contextmanager
def results() -> Iterator[None]:
    """Raises OutputError where what is printed inside is not taken, BrokenPipeError when nobody reads."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(sys.stdout)
        raise _untaken((error.strerror or str(error)).lower()) from None


def _untaken(said: str) -> OutputError:
    from bootbuild.store import UNWRITABLE

    return OutputError(Problem(UNWRITABLE, "stdout", said, "redirect the output to where there is room"))


def tell(text: str) -> None:
    """Print one line on stderr. That nobody can read it is no reason to stop."""
    try:
        click.echo(text, err=True)
    except OSError:
        give_up(sys.stderr)


def give_up(stream: TextIO) -> None:
    """Let what Python flushes at its end go nowhere: it would raise once more, and end with code 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def color() -> bool:
    """Whether stdout takes colour: a terminal, and the user did not refuse it (no-color.org)."""
    return _terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal; None where stdout is none, and lines may be of any length."""
    return shutil.get_terminal_size().columns if _terminal() else None


def _terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
