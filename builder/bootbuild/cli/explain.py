"""`bootbuild explain`: what a rule, a target, a guest, a profile or a loader is."""

from __future__ import annotations

import click

from bootbuild.cli.options import open_host, plugin_options
from bootbuild.cli.output import Command, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
@click.argument("topic", metavar="CODE|TARGET|GUEST|PROFILE|LOADER")
@plugin_options
def explain(topic: str, extra: tuple[str, ...], no_plugins: bool) -> ExitCode:
    """Explain a rule by its id (BB-R007), or a target, guest, profile or loader by its name (pvh@qemu)."""
    from bootbuild.report import explanation

    write(explanation.explain(topic, open_host(extra, no_plugins)))
    return ExitCode.OK
