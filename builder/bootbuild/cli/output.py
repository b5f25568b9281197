"""What a command says: results on stdout, everything else on stderr, and what becomes of it there."""

from __future__ import annotations

import os
import shutil
import sys

import click

from bootbuild.errors import OutputError, Problem


def write(text: str) -> None:
    """Print a result. Raises OutputError when stdout does not take it, BrokenPipeError when nobody reads."""
    from bootbuild.store import UNWRITABLE

    said = "it is closed"
    try:
        if sys.stdout is not None:
            return click.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        said = (error.strerror or str(error)).lower()
    raise OutputError(Problem(UNWRITABLE, "stdout", said, "redirect the output to where there is room"))


def tell(text: str) -> None:
    """Print one line on stderr. That nobody can read it is no reason to stop."""
    try:
        click.echo(text, err=True)
    except OSError:
        pass


def reader_has_gone() -> None:
    """Let what Python flushes at its end go nowhere: it would raise once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def color() -> bool:
    """Whether stdout takes colour: a terminal, and the user did not refuse it (no-color.org)."""
    return _terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal; None where stdout is none, and lines may be of any length."""
    return shutil.get_terminal_size().columns if _terminal() else None


def _terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
