"""The recipes that bootbuild ships to start from, copied to where the user wants them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from bootbuild.errors import OutputError, Problem
from bootbuild.recipe import rules

SHIPPED = (".elf", ".toml", ".txt")  #: what a user needs; sources and build rules stay in the package


def copy_example(name: str, directory: Path) -> tuple[Path, ...]:
    """Copy the example `name` into `directory`. Returns the new files, and raises, as `fill` does."""
    example = resources.files("bootbuild") / "guests" / name
    return fill(
        directory,
        {file.name: file.read_bytes() for file in example.iterdir() if file.name.endswith(SHIPPED)},
    )


def fill(directory: Path, files: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write `files`, by their paths below it, into `directory`, which must be empty or not there.

    Returns the new files, sorted. Raises OutputError, and then has left nothing.
    """
    new = [directory / name for name in sorted(files)]
    folders = {folder for path in new for folder in path.parents if not folder.exists()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise OutputError(Problem(rules.NOT_EMPTY, str(directory), "the folder is not empty"))
        with _whole(new, sorted(folders, reverse=True)):
            for path in new:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files[str(path.relative_to(directory))])
    except OSError as error:
        message = error.strerror or str(error)
        raise OutputError(
            Problem(rules.NOT_EMPTY, str(error.filename or directory), message.lower())
        ) from None
    return tuple(new)


@contextmanager
def _whole(files: list[Path], folders: list[Path]) -> Iterator[None]:
    """Remove `files`, then those `folders` that are there, the inner first, where not all can be made."""
    try:
        yield
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        for folder in folders:
            if folder.exists():
                folder.rmdir()
        raise
