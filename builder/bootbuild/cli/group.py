"""The command group. What is no command is a recipe: `bootbuild a.toml` is `bootbuild build a.toml`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.shell_completion import CompletionItem

import bootbuild as package
from bootbuild.cli.boot import boot
from bootbuild.cli.build import build
from bootbuild.cli.check import check
from bootbuild.cli.explain import explain
from bootbuild.cli.inspect import inspect
from bootbuild.cli.new import new
from bootbuild.cli.output import give_up, results
from bootbuild.cli.plugins import plugins
from bootbuild.cli.schema import schema
from bootbuild.errors import BootbuildError

DEFAULT = "build"
BROKEN_PIPE = 141  #: 128 + SIGPIPE, as shells report it


@contextmanager
def closed_pipes() -> Iterator[None]:
    """End with BROKEN_PIPE when nobody reads stdout any more; click's 1 would say that an image failed."""
    try:
        yield
    except BrokenPipeError:
        give_up(sys.stdout)
        raise click.exceptions.Exit(BROKEN_PIPE) from None


class DefaultGroup(click.Group):
    """A group whose default command is `build`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `build` in front of anything that is neither a command nor an option of the group itself."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            self._misspelled(ctx, args[0])
            self._misplaced(ctx, args)
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def _misspelled(self, ctx: click.Context, word: str) -> None:
        """Raise a usage error for what is no file, but almost the name of a command."""
        from difflib import get_close_matches

        near = get_close_matches(word, self.commands, n=1)
        if near and not os.path.lexists(word):
            raise click.UsageError(f"No such command or recipe {word!r}. Did you mean {near[0]!r}?", ctx)

    def _misplaced(self, ctx: click.Context, args: list[str]) -> None:
        """Raise a usage error for options that stand before the command that they are meant for."""
        flags = {
            name
            for parameter in self.commands[DEFAULT].get_params(ctx)
            if isinstance(parameter, click.Option) and parameter.is_flag
            for name in parameter.opts
        }
        for at, word in enumerate(args):
            if word in self.commands and at and not os.path.lexists(word):
                options = " ".join(args[:at])
                text = f"Options stand behind the command: {ctx.command_path} {word} {options}"
                raise click.UsageError(text, ctx)
            if word not in flags:  # a recipe, or an option that takes the next word
                return

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """`--help` and `--version` print from here."""
        with closed_pipes(), results():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Every command prints from here. A plugin's defect is told as such."""
        with closed_pipes():
            try:
                return super().invoke(ctx)
            except (click.exceptions.Exit, click.Abort, click.ClickException, BootbuildError, OSError):
                raise
            except Exception as error:
                culprit = ctx.obj.culprit(error) if ctx.obj is not None else None
                if culprit is None:
                    raise
                raise culprit from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, and files: each may be a recipe."""
        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="file")]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both forms."""
        formatter.write_usage(ctx.command_path, "RECIPE...")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...")


@click.group(
    cls=DefaultGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 every image passed, 1 one failed, 2 wrong usage, 3 wrong recipe, "
    "4 malformed input, 5 not possible, 6 plugin missing or broken, 7 emulator unusable, "
    "8 not decided, 9 output not writable, 70 a defect of bootbuild.",
)
@click.version_option(package.__version__, prog_name="bootbuild", message="%(prog)s %(version)s")
def bootbuild() -> None:
    """Build x86 boot images, and prove each one by booting it.

    `bootbuild recipe.toml` builds every image that the recipe asks for and boots it on an embedded x86
    core, set up as the firmware, loader or hypervisor would. `bootbuild new hello DIR` makes a recipe to
    try, `bootbuild explain CODE` says what a rule means.
    """


for command in (build, boot, check, inspect, plugins, explain, schema, new):
    bootbuild.add_command(command)
