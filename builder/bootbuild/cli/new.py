"""`bootbuild new`: a folder to start from."""

from __future__ import annotations

from pathlib import Path

import click

from bootbuild.cli.options import FILE
from bootbuild.cli.output import Command, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(["hello", "linux"]))
@click.argument("directory", type=FILE)
def new(kind: str, directory: Path) -> ExitCode:
    """Make a folder with a recipe to start from.

    hello: two small kernels, 64 and 32 bit, that print what they are handed, with their recipes.

    linux: a recipe for your own kernel, which is to be put beside it or named with --payload.
    """
    from bootbuild.recipe.start import copy_example

    write("".join(f"{path}\n" for path in copy_example(kind, directory)))
    return ExitCode.OK
