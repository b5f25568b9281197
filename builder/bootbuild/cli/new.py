"""`bootbuild new`: a folder to start from."""

from __future__ import annotations

from pathlib import Path

import click

from bootbuild.cli.options import FILE, open_host
from bootbuild.cli.output import Command, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(["hello", "linux", "plugin"]))
@click.argument("directory", type=FILE)
def new(kind: str, directory: Path) -> ExitCode:
    """Make a folder to start from.

    hello: two small kernels, 64 and 32 bit, that print what they are handed, with their recipes.

    linux: a recipe for your own kernel, which is to be put beside it or named with --payload.

    plugin: a distribution of your own, with a guest, its stub, a kernel and tests. The folder's name is its.
    """
    write("".join(f"{path}\n" for path in _made(kind, directory)))
    return ExitCode.OK


def _made(kind: str, directory: Path) -> tuple[Path, ...]:
    from bootbuild.recipe.start import copy_example

    if kind != "plugin":
        return copy_example(kind, directory)
    from bootbuild.recipe.plugin import BadName, copy_plugin, plugin_name

    try:
        name = plugin_name(directory, open_host((), False))
    except BadName as reason:
        raise click.BadParameter(f"{reason}.", param_hint="DIRECTORY") from None
    return copy_plugin(name, directory)
