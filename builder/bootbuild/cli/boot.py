"""`bootbuild boot`: boot an image that anybody made."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

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
from bootbuild.cli.output import Command, color, write
from bootbuild.cli.output import width as columns
from bootbuild.errors import ExitCode


class SizeType(click.ParamType[int]):
    """A size in bytes, with a unit if one likes: 64M, 1GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raise a usage error for what is no size."""
        from bootbuild.recipe.scalars import size

        try:
            return size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SecondsType(click.FloatRange):
    """A time that ends."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(0, 1e9, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raise a usage error for what is no time; NaN is in no range, and click lets it pass."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


@click.command(cls=Command)
@click.argument("image", type=FILE)
@click.option(
    "--as",
    "profiles",
    multiple=True,
    required=True,
    metavar="PROFILE|TARGET",
    help="Profile (pvh@qemu), or a target for all of its profiles (pvh). May be repeated.",
)
@click.option(
    "--until",
    metavar="SYMBOL|ADDRESS|console:TEXT",
    help="What must be reached; default: the startup path that the image's own record names.",
)
@click.option(
    "--width",
    type=click.Choice(["32", "64"]),
    help="Of the code there; default: the record's, or the ELF class.",
)
@click.option("--symbols", type=FILE, help="System.map of an image without symbols.")
@click.option("--guest", help="Handover protocol to judge by; default: as the image's own record says.")
@click.option("--cmdline", default="", help="Command line that the environment passes.")
@click.option("--module", "modules", multiple=True, metavar="PATH[=CMDLINE]", help="Module; may be repeated.")
@click.option("--memory", type=SizeType(), help="RAM, such as 64M; default: the profile's.")
@click.option("--budget", type=click.IntRange(1, (1 << 63) - 1), help="Instructions that one run may take.")
@click.option("--timeout", type=SecondsType(), help="Seconds that one run may take.")
@level_option
@exact_option
@click.option("--trace", is_flag=True, help="Show the blocks of code in the order of their first execution.")
@json_option
@verbosity_options
@plugin_options
def boot(  # noqa: PLR0917 - click passes every option by name
    image: Path,
    profiles: tuple[str, ...],
    until: str | None,
    width: str | None,
    symbols: Path | None,
    guest: str | None,
    cmdline: str,
    modules: tuple[str, ...],
    memory: int | None,
    budget: int | None,
    timeout: float | None,
    level: str | None,
    exact: bool,
    trace: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    extra: tuple[str, ...],
    no_plugins: bool,
) -> ExitCode:
    """Boot IMAGE on the embedded core, as one or more environments would."""
    from bootbuild import pipeline
    from bootbuild.api.target import takes_packed
    from bootbuild.formats import bzimage
    from bootbuild.formats.payload import open_content
    from bootbuild.model.request import BootRequest
    from bootbuild.model.verdict import Level
    from bootbuild.recipe.overrides import split_module
    from bootbuild.report import json_form, text

    if until == "console:":  # every console has printed nothing, at least
        raise click.BadParameter("'console:' without a text.", param_hint="'--until'")
    if level is not None and (until or "").startswith("console:"):
        raise click.BadParameter("a boot to a text goes beyond every level.", param_hint="'--level'")
    host = open_host(extra, no_plugins)
    request = BootRequest(
        image=image,
        profiles=profiles,
        until=until,
        width=None if width is None else int(width),
        symbols=symbols,
        guest=guest,
        cmdline=os.fsencode(cmdline),
        modules=tuple(
            (Path(path), os.fsencode(line)) for path, line in (split_module(module) for module in modules)
        ),
        memory=memory,
        budget=budget,
        timeout=timeout,
        level=None if level is None else Level(level),
        exact=exact,
    )
    verdicts = pipeline.boot(request, host, progress(quiet, verbose))
    if as_json:
        write(json_form.boot(str(image), verdicts, trace))
    else:
        unpacked = not all(takes_packed(host.target(verdict.target)) for verdict in verdicts)
        inner = unpacked and bzimage.is_bzimage(open_content(image))
        name = f"{image} (its vmlinux)" if inner else str(image)
        write(text.boot(name, verdicts, trace, columns(), color()))
    return exit_code([verdict.outcome for verdict in verdicts])
