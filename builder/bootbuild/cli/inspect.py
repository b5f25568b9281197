"""`bootbuild inspect`: what can start a file, and how."""

from __future__ import annotations

from pathlib import Path

import click

from bootbuild.cli.options import FILE, json_option, open_host, plugin_options
from bootbuild.cli.output import Command, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
@click.argument("image", type=FILE)
@json_option
@plugin_options
def inspect(image: Path, as_json: bool, extra: tuple[str, ...], no_plugins: bool) -> ExitCode:
    """Show what can start IMAGE and how: headers, segments, notes, entries, bootbuild's own record."""
    from bootbuild.report import inspection

    found = inspection.inspect(image, open_host(extra, no_plugins))
    write(inspection.as_json(found) if as_json else inspection.as_text(found))
    return ExitCode.OK
