"""`bootbuild schema`: the JSON schema of recipes."""

from __future__ import annotations

import click

from bootbuild.cli.output import Command, write
from bootbuild.errors import ExitCode


@click.command(cls=Command)
def schema() -> ExitCode:
    """Print the JSON schema of recipes, for editors and other tools."""
    from bootbuild.recipe.schema import json_schema

    write(json_schema())
    return ExitCode.OK
