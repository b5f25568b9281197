"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bootbuild.cli.output import tell
from bootbuild.errors import ExitCode

if TYPE_CHECKING:
    from bootbuild.host import Host
    from bootbuild.model.verdict import Outcome

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(readable=False, path_type=Path)  #: a rule, not click, says what cannot be read


def plugin_options(command: F) -> F:
    """`-p` and `--no-plugins`: the arguments of `open_host`."""
    command = click.option(
        "--no-plugins", is_flag=True, help="Use only the plugins that come with bootbuild."
    )(command)
    return click.option(
        "-p",
        "extra",
        multiple=True,
        metavar="MODULE:OBJECT|no:DIST",
        help="Add a plugin object that is importable, or leave out an installed distribution's plugins.",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Write JSON to stdout; its `schema` field names the format."
    )(command)


def exact_option(command: F) -> F:
    """`--exact`."""
    return click.option(
        "--exact", is_flag=True, help="Let a packed kernel unpack itself, instruction by instruction."
    )(command)


def level_option(command: F) -> F:
    """`--level`."""
    return click.option(
        "--level",
        type=click.Choice(["stub", "handoff"]),
        help="Where each boot ends: where a kernel's own boot stub hands it over, or at its startup path.",
    )(command)


def verbosity_options(command: F) -> F:
    """`-q` and `-v`: the arguments of `progress`."""
    command = click.option("-v", "--verbose", is_flag=True, help="Say when each step began, in seconds.")(
        command
    )
    return click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")(command)


def open_host(extra: tuple[str, ...], no_plugins: bool) -> Host:
    """The plugin host of this run."""
    from bootbuild.host import Host

    host = Host.discover(plugins=not no_plugins, extra=extra)
    click.get_current_context().find_root().obj = host  # for the group, to tell whose defect an error is
    return host


def progress(quiet: bool, verbose: bool) -> Callable[[str], None]:
    """What tells the user on stderr how far a command is."""
    import time

    began = time.monotonic()

    def announce(text: str) -> None:
        if not quiet:
            stamp = f"{time.monotonic() - began:8.2f} s  " if verbose else ""
            tell(f"bootbuild: {stamp}{text}")

    return announce


def exit_code(outcomes: list[Outcome]) -> ExitCode:
    """FAILED before INCONCLUSIVE before OK; nothing judged is INCONCLUSIVE."""
    from bootbuild.model.record import overall
    from bootbuild.model.verdict import Outcome

    codes = {Outcome.FAILED: ExitCode.FAILED, Outcome.BOOTED: ExitCode.OK}
    return codes.get(overall(outcomes), ExitCode.INCONCLUSIVE)
