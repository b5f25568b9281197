"""`bootbuild check`: what each real loader would say to a file, without running anything."""

from __future__ import annotations

from pathlib import Path

import click

from bootbuild.cli.options import FILE, json_option, open_host, plugin_options
from bootbuild.cli.output import Command, color, width, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
@click.argument("image", type=FILE)
@click.option("--model", "models", multiple=True, metavar="NAME", help="Ask this loader; may be repeated.")
@click.option(
    "--boot",
    "boots",
    multiple=True,
    metavar="PROTOCOL",
    help="Ask for this protocol (pvh, xen-pv, linux, …); may be repeated.",
)
@json_option
@plugin_options
def check(
    image: Path,
    models: tuple[str, ...],
    boots: tuple[str, ...],
    as_json: bool,
    extra: tuple[str, ...],
    no_plugins: bool,
) -> ExitCode:
    """Show what each loader model says to IMAGE, with the rule that decides.

    The exit code is 0 if every loader that was asked accepts the file, by at least one of the protocols
    that were asked for, and 1 if one does not: `bootbuild check vmlinux --boot pvh --model xen-xl`.
    """
    from bootbuild.report import acceptance

    found = acceptance.judge(image, open_host(extra, no_plugins), models, boots)
    write(acceptance.as_json(found) if as_json else acceptance.as_text(found, width(), color()))
    return ExitCode.OK if found.accepted else ExitCode.FAILED
