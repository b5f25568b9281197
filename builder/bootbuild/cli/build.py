"""`bootbuild build`, the default: build every image of the recipes and boot each."""

from __future__ import annotations

from pathlib import Path

import click

from bootbuild.cli.options import (
    FILE,
    exact_option,
    exit_code,
    json_option,
    level_option,
    open_host,
    plugin_options,
    progress,
    verbosity_options,
)
from bootbuild.cli.output import Command, color, width, write
from bootbuild.errors import BootbuildError, ExitCode


@click.command(cls=Command)
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...", type=FILE)
@click.option(
    "-o", "--output", type=click.Path(readable=False), help="Folder of the images, in place of the recipe's."
)
@click.option("--payload", type=click.Path(readable=False), help="Kernel, in place of the recipe's.")
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="PATH[=CMDLINE]",
    help="Module; one or more replace all of the recipe's.",
)
@click.option("--cmdline", help="Command line, in place of the recipe's.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key of the recipe: dotted, with a TOML value or plain text.",
)
@level_option
@exact_option
@click.option("-f", "--force", is_flag=True, help="Build and boot again what has not changed.")
@json_option
@verbosity_options
@plugin_options
def build(  # noqa: PLR0917 - click passes every option by name
    recipes: tuple[Path, ...],
    output: str | None,
    payload: str | None,
    modules: tuple[str, ...],
    cmdline: str | None,
    settings: tuple[str, ...],
    level: str | None,
    exact: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    extra: tuple[str, ...],
    no_plugins: bool,
) -> ExitCode:
    """Build the images of each RECIPE and boot each one.

    This is the default command: `bootbuild hello.toml` is `bootbuild build hello.toml`. All recipes are
    read before anything is built. Paths in a recipe are relative to it, those given here to the current
    folder. Every image is booted in every profile; there is no way to leave that out.
    """
    from bootbuild import pipeline
    from bootbuild.cli import say
    from bootbuild.recipe.overrides import Overrides
    from bootbuild.recipe.read import read_all
    from bootbuild.report import json_form, text

    host = open_host(extra, no_plugins)
    overrides = Overrides(payload, modules, cmdline, output, settings, exact, level)
    tell = progress(quiet, verbose)
    records, error = [], None
    for recipe in read_all(recipes, host, overrides):
        try:
            records.append(pipeline.build_if_changed(recipe, host, tell, force))
        except BootbuildError as raised:  # the other recipes are still built
            say(raised)
            error = error or raised
    write(json_form.build(records) if as_json else text.build(records, width(), color()))
    if error is not None:
        return error.exit_code
    return exit_code([image.outcome for record in records for image in record.images])
