"""The command line: runs one command, and turns whatever happens into lines on stderr and an exit code.

Nothing heavy is imported before a command needs it: `bootbuild --help` costs no more than click.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence

from bootbuild.errors import BootbuildError, ExitCode

INTERRUPTED = 130  #: 128 + SIGINT, as shells report it
_GARBAGE = 200_000  #: objects between collections: nearly all that a command makes live to its end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `bootbuild` with `arguments` (default: those of the process) and return its exit code."""
    gc.set_threshold(_GARBAGE, 20, 20)
    atexit.register(_leave_garbage)
    try:
        import click

        from bootbuild.cli.group import bootbuild
    except KeyboardInterrupt:
        return INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        # a file name may hold bytes that are no UTF-8: printing it must not fail
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = bootbuild.main(
            None if arguments is None else list(arguments), prog_name="bootbuild", standalone_mode=False
        )
        return int(code or ExitCode.OK)
    except click.ClickException as error:
        try:
            error.show()
        except OSError:  # nobody reads stderr
            from bootbuild.cli.output import give_up

            give_up(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BootbuildError as error:
        say(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: a defect becomes one line, not a traceback
        return _defect(error)


def _leave_garbage() -> None:
    """Have Python not look through all objects once more when the process ends.

    It must where LIEF is loaded: nanobind, which that is made with, tells of all that is left as of a leak.
    """
    if "lief" not in sys.modules:
        gc.freeze()


def say(error: BootbuildError) -> None:
    """Print every problem of `error` on stderr, one a line."""
    from bootbuild.cli.output import tell

    for problem in error.problems:
        tell(f"bootbuild: error: {_one_line(str(problem))}")


def _defect(error: Exception) -> int:
    from bootbuild.cli.output import tell

    if os.environ.get("BOOTBUILD_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    said = _one_line(f"{type(error).__name__}: {error}")[:300]
    tell(
        f"bootbuild: error: a defect of bootbuild itself: {said}; please report it, with the output "
        "of the same command under BOOTBUILD_DEBUG=1"
    )
    return ExitCode.INTERNAL


def _one_line(text: str) -> str:
    """Text from anywhere without what could move a terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in text)
