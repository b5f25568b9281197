"""`bootbuild plugins`: what is installed, and what is wrong with it."""

from __future__ import annotations

import click

from bootbuild.cli.options import json_option, open_host, plugin_options
from bootbuild.cli.output import Command, width, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
@json_option
@plugin_options
def plugins(as_json: bool, extra: tuple[str, ...], no_plugins: bool) -> ExitCode:
    """List the installed plugins, from their metadata alone.

    Names that two distributions offer, and plugins made for another plugin API, are listed too.
    """
    from bootbuild.report import listing

    host = open_host(extra, no_plugins)
    write(listing.plugins_json(host) if as_json else listing.plugins_text(host, width()))
    return ExitCode.OK
